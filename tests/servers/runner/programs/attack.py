"""Runs inside a sandbox: tries every door and prints a JSON object of what happened, one word or number a door.

Arguments: a JSON object with `port` of a listener outside, `abstract` name and `socket` path of unix sockets outside,
`folders` outside that exist there, `process` outside.
"""

import ctypes
import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading

OUTSIDE = json.loads(sys.argv[1])
LIBC = ctypes.CDLL(None, use_errno=True)
FOUND = {}


def door(name):
    """Record what the function returns, or the name of the error it ran into."""

    def record(function):
        try:
            FOUND[name] = function()
        except OSError as error:
            FOUND[name] = errno.errorcode.get(error.errno, str(error))
        return function

    return record


def call(number, *arguments):
    """A system call by its number on x86-64: `ok`, or the name of the error."""
    ctypes.set_errno(0)
    if LIBC.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, arguments)) >= 0:
        return "ok"
    return errno.errorcode[ctypes.get_errno()]


def read(path):
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


def write(path):
    with open(path, "ab") as file:
        file.write(b"x")
    return "written"


def in_child(function):
    """The signal that ended a child which runs the function, or its exit code."""
    child = os.fork()
    if child == 0:
        try:
            function()
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def fill(folder, limit):
    """How many MiB fit, until there is no room; -1 when there is no end."""
    path = os.path.join(folder, "fill")
    block, written = b"x" * 65536, 0
    try:
        with open(path, "wb", buffering=0) as file:
            while written < limit:
                written += file.write(block)
        return -1
    except OSError as error:
        return written >> 20 if error.errno == errno.ENOSPC else str(error)
    finally:
        os.unlink(path)


# ---- files ---------------------------------------------------------------------------------------------------

for path in (
    "/etc/shadow",
    "/etc/passwd",
    "/etc/hosts",
    "/root",
    "/home",
    "/var",
    "/sys",
    "/boot",
    "/usr/local",
    "/usr/sbin",
):
    door(f"look {path}")(lambda path=path: os.stat(path) and "there")
for index, path in enumerate(OUTSIDE["folders"]):
    door(f"look outside {index}")(lambda path=path: os.stat(path) and "there")
for path in (
    "/app/owned.txt",
    "/app/new",
    "/venv/new",
    "/new",
    "/usr/new",
    "/usr/bin/python3",
    "/dev/new",
    "/etc/new",
    "/proc/new",
):
    door(f"write {path}")(lambda path=path: write(path))
door("follow a link out of the code")(lambda: read("/app/way-out"))
door("room in /tmp")(lambda: fill("/tmp", 64 << 20))
door("room in /dev/shm")(lambda: fill("/dev/shm", 64 << 20))
door("top folders")(lambda: sorted(os.listdir("/")))
door("make a device")(lambda: os.mknod("/tmp/kmsg", 0o20666, os.makedev(1, 11)) or "made")
door("hold on to the memory of the kernel")(lambda: read("/proc/kcore")[:1])
door("set a kernel variable")(lambda: write("/proc/sys/kernel/core_pattern"))
door("press a system request")(lambda: write("/proc/sysrq-trigger"))
door("a file with a set-user bit")(
    lambda: subprocess.run(["/app/setuid-id", "-u"], capture_output=True, text=True).stdout.strip()
)

# ---- processes -----------------------------------------------------------------------------------------------

door("own environment")(lambda: sorted(os.environ))
door("environment of process 1")(lambda: read("/proc/1/environ"))
door("command line of process 1")(lambda: read("/proc/1/cmdline"))
door("processes")(
    lambda: sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid())
)
door("signal everybody")(lambda: os.kill(-1, 0) or "ok")
door("signal a process outside")(lambda: os.kill(OUTSIDE["process"], 0) or "ok")
door("control group")(lambda: sorted({line.split(":")[2] for line in read("/proc/self/cgroup").split()}))
door("descriptors")(lambda: sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1])
STATUS = dict(line.split(":\t", 1) for line in read("/proc/self/status").splitlines() if ":\t" in line)
for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
    FOUND[name] = int(STATUS[name], 16)
for name in ("NoNewPrivs", "Seccomp"):
    FOUND[name] = int(STATUS[name])
FOUND["user"] = os.getuid()
FOUND["groups"] = sorted(set(os.getgroups()))
FOUND["host name"] = socket.gethostname()
for name in ("NOFILE", "NPROC", "CORE", "FSIZE"):
    FOUND[f"limit {name}"] = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]

# ---- network -------------------------------------------------------------------------------------------------


def connects(family, address):
    with socket.socket(family) as client:
        client.settimeout(2)
        client.connect(address)
    return "connected"


door("a listener on the machine")(lambda: connects(socket.AF_INET, ("127.0.0.1", OUTSIDE["port"])))
door("an abstract socket")(lambda: connects(socket.AF_UNIX, "\0" + OUTSIDE["abstract"]))
door("the runner's socket")(lambda: connects(socket.AF_UNIX, OUTSIDE["socket"]))
door("the internet")(lambda: connects(socket.AF_INET, ("192.0.2.1", 80)))
door("cloud metadata")(lambda: connects(socket.AF_INET, ("169.254.169.254", 80)))
door("interfaces")(
    lambda: sorted(line.split(":")[0].strip() for line in read("/proc/net/dev").splitlines()[2:])
)
FAMILIES = {
    "netlink": 16,
    "packet": 17,
    "alg": 38,
    "vsock": 40,
    "bluetooth": 31,
    "xdp": 44,
    "x25": 9,
    "key": 15,
}
for name, family in FAMILIES.items():
    door(f"socket {name}")(lambda family=family: socket.socket(family, socket.SOCK_DGRAM).close() or "ok")
door("a raw socket")(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close() or "ok")
door("an ordinary socket")(lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close() or "ok")

# ---- the kernel ----------------------------------------------------------------------------------------------

NEW_USER, NEW_NET = 0x10000000, 0x40000000
CALLS = {
    "ptrace": (101, 16, 1),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "process_vm_writev": (311, 1, 0, 0, 0, 0, 0),
    "kcmp": (312, 1, 1, 0, 0, 0),
    "pidfd_getfd": (438, 0, 0, 0),
    "io_uring_setup": (425, 8, 0),
    "keyctl": (250, 0, 0),
    "add_key": (248, 0, 0, 0, 0, 0),
    "request_key": (249, 0, 0, 0, 0),
    "unshare": (272, NEW_USER),
    "setns": (308, 0, 0),
    "clone into a user namespace": (56, NEW_USER | 17, 0, 0, 0, 0),
    "clone into a network": (56, NEW_NET | 17, 0, 0, 0, 0),
    "clone3": (435, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount": (166, 0, 0),
    "pivot_root": (155, 0, 0),
    "chroot": (161, 0),
    "fsopen": (430, 0, 0),
    "open_tree": (428, 0, 0, 0),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, 0, 0, 0),
    "userfaultfd": (323, 0),
    "open_by_handle_at": (304, 0, 0, 0),
    "name_to_handle_at": (303, 0, 0, 0, 0, 0),
    "personality": (135, 0xFFFFFFFF),
    "quotactl": (179, 0, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "init_module": (175, 0, 0, 0),
    "delete_module": (176, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "swapon": (167, 0, 0),
    "syslog": (103, 10, 0, 0),
    "sethostname": (170, 0, 0),
    "settimeofday": (164, 0, 0),
    "adjtimex": (159, 0),
    "acct": (163, 0),
    "iopl": (172, 3),
    "memfd_secret": (447, 0),
    "a call newer than the filter": (457, 0, 0, 0, 0),
}
if os.uname().machine == "x86_64":
    for name, arguments in CALLS.items():
        door(f"call {name}")(lambda arguments=arguments: call(*arguments))
    # x32: the same calls under other numbers, which a filter may forget.
    door("a call of another kind")(lambda: in_child(lambda: call(0x40000000 | 39)))
door("type into a terminal")(lambda: LIBC.ioctl(0, 0x5412, b"x") and errno.errorcode[ctypes.get_errno()])
door("a thread")(
    lambda: (
        [thread := threading.Thread(target=FOUND.get, args=("",)), thread.start(), thread.join()] and "ran"
    )
)
door("a process")(
    lambda: subprocess.run(["/bin/sh", "-c", "echo ran"], capture_output=True, text=True).stdout.strip()
)
print(json.dumps(FOUND))
