"""Where the installation on a data directory is reached while it runs: a file that is believed only while locked.

The kernel lets go of the lock with the process, however that ends, so nothing can outlive it and be believed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = "web.origin"
_LONGEST = 2_048


@contextmanager
def announced(folder: Path, origin: str) -> Iterator[None]:
    """Leave the origin for commands on this machine, for as long as the block lasts."""
    path = folder / _NAME
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits for a reader, which is done at once
        os.ftruncate(file, 0)
        os.write(file, origin.encode())
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(file)


def running_origin(folder: Path) -> str:
    """What the process that runs on this directory has left, or "" when none does."""
    try:
        file = os.open(folder / _NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""  # never started, stopped, or another user's
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(file, _LONGEST).decode()
    else:
        return ""
    finally:
        os.close(file)
