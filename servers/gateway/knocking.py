"""How other processes of a small installation tell its one gateway that something changed, where there is no bus.

A knock is a datagram to a socket in the data directory. Like a word on the bus it is a hint: what is not heard costs
half a second, never a change.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

NAME = "gateway.knock"
# Of those that wait, so many are heard as one.
AT_ONCE = 100


class Door:
    """Calls `heard` on the running loop when somebody has knocked. Raises OSError where there can be no socket, for
    one because its path is longer than the 107 bytes that the kernel allows.
    """

    def __init__(self, folder: Path, heard: Callable[[], None]) -> None:
        path = folder / NAME
        self._heard = heard
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            path.unlink(missing_ok=True)  # the last one's, who need not have left in peace
            self._socket.bind(os.fspath(path))
            path.chmod(0o600)
        except OSError:
            self._socket.close()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(AT_ONCE):
                self._socket.recv(1)
        self._heard()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


def knock(folder: Path) -> None:
    """Never waits, and does nothing where nobody listens."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
        caller.setblocking(False)
        caller.sendto(b"!", os.fspath(folder / NAME))
