"""Takes as much as it can of what its argument names, and says `survived` when nothing stops it."""

import mmap
import os
import sys
import threading
import time

KIND, AMOUNT = sys.argv[1], int(sys.argv[2])
MIB = 1 << 20


def until_refused(start):
    """Start as many as are allowed, and say how many that were."""
    for number in range(AMOUNT):
        try:
            start()
        except (OSError, RuntimeError):
            print("stopped at", number, flush=True)
            os._exit(0)


def forks():
    until_refused(lambda: os.fork() or time.sleep(30))


def threads():
    until_refused(lambda: threading.Thread(target=time.sleep, args=(30,), daemon=True).start())


def memory():
    kept = [b"x" * MIB for _ in range(AMOUNT)]
    print(len(kept))


def forked_memory():
    """Each child is small enough; together they are not."""
    pipe = os.pipe()
    for _ in range(8):
        if os.fork() == 0:
            os.close(pipe[0])
            kept = [b"x" * MIB for _ in range(AMOUNT // 8)]
            time.sleep(30 if kept else 0)
    os.close(pipe[1])
    deadline = time.monotonic() + 15  # with half a processor, eight of them take a while
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                print("a child was stopped", flush=True)
                os._exit(0)
        except ChildProcessError:
            break
        time.sleep(0.02)


def memfd():
    bomb = os.memfd_create("bomb")
    for _ in range(AMOUNT):
        os.write(bomb, b"x" * MIB)


def inodes():
    for index in range(AMOUNT):
        os.close(os.open(f"/tmp/{index}", os.O_CREAT | os.O_WRONLY))


def shared():
    area = mmap.mmap(-1, AMOUNT * MIB)
    for offset in range(0, AMOUNT * MIB, 4096):
        area[offset] = 1


def spin():
    for _ in range(3):
        if os.fork() == 0:
            break
    while True:
        pass


globals()[KIND]()
print("survived", flush=True)
