"""The way out of a sandbox without a network: a port of its own loopback that leads to the socket mounted into it.

Programs find it by the usual variables. On the other side of the socket a proxy decides who is reached.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading

SOCKET = "/run/egress.sock"
_CHUNK = 64 * 1024
_CONNECTIONS = 64
_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def begin() -> None:
    """Open the port and tell this process's children, and itself, where it is."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=_CONNECTIONS)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    os.environ |= {name: url for each in _VARIABLES for name in (each, each.lower())}
    os.environ |= {"NO_PROXY": "", "no_proxy": ""}
    # Node reads them only when it is told to.
    os.environ["NODE_USE_ENV_PROXY"] = "1"
    threading.Thread(target=_accept, args=(listener,), daemon=True).start()


def run(command: list[str]) -> None:
    """Run a command that may use the way out, and end as it ends."""
    begin()
    sys.exit(subprocess.run(command, check=False).returncode)


def _accept(listener: socket.socket) -> None:
    room = threading.BoundedSemaphore(_CONNECTIONS)
    while True:
        inner, _ = listener.accept()
        room.acquire()
        threading.Thread(target=_join, args=(inner, room), daemon=True).start()


def _join(inner: socket.socket, room: threading.BoundedSemaphore) -> None:
    try:
        with inner, socket.socket(socket.AF_UNIX) as outer:
            outer.connect(SOCKET)
            back = threading.Thread(target=_copy, args=(outer, inner), daemon=True)
            back.start()
            _copy(inner, outer)
            back.join()
    except OSError:
        pass  # whoever wanted to get out sees its connection closed
    finally:
        room.release()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(_CHUNK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            _shut(end)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        end.shutdown(socket.SHUT_RDWR)
