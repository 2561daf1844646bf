"""What of `mooring up` runs as whom: only the runner needs root, so the rest becomes a user of its own if it can.

The user is a number that stands in no list of users. It gets the data directory; everything else it needs has to be
open to everybody, and where something is not, all stays root's, with a sentence that says what is in the way.
"""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

# User and group. The next number below those of servers (`servers.runner.sandbox.users`).
USER = 199_999
# What Mooring makes in its data directory, apart from the runner's folder; anything else there is somebody else's.
_OURS = ("beat-schedule", "broker", "journal", "mail", "mooring.sqlite3", "secrets.", "static", "web.")
# Made ahead: a command that root runs beside us may write there first.
_SHARED = ("broker", "broker-control", "mail")
_SECRETS = ("MOORING_", "DATABASE_", "REDIS_", "SENTRY_")
_UNPRIVILEGED_PORTS = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def obstacle(data: Path, runner: Path, journal: Path, port: int) -> str:
    """Why the user cannot do without root, in a clause; "" when it can."""
    for path in (*_code(), *_secret_files()):
        if (shut := closed(path)) is not None:
            return f"no other user may {'enter' if shut.is_dir() else 'read'} {shut}"
    for folder in (data, journal):
        if (shut := closed(folder.parent)) is not None:
            return f"no other user may enter {shut}"
    if (stranger := _stranger(data, runner)) is not None:
        return f"{stranger} is not Mooring's own, so {data} cannot be given to another user"
    if port < _first_open_port():
        return f"port {port} is for root alone"
    return ""


def give(data: Path, runner: Path, journal: Path) -> str:
    """Let the user make and keep files in the folders, and have what root has left there. Why not, or "", as above.

    The data directory stays root's, and what is in it belongs to whoever made it: the runner's folder cannot be
    replaced.
    """
    try:
        runner.mkdir(mode=0o751, parents=True, exist_ok=True)
        for made in (journal, *(data / name for name in _SHARED)):
            made.mkdir(parents=True, exist_ok=True)
        for folder in {data, journal}:
            _open_up(folder)
            for handle, name in _inside(folder, without=runner):
                os.chown(name, USER, USER, dir_fd=handle, follow_symlinks=False)
    except OSError as error:  # a file system without owners, or one whose owners are another machine's matter
        return f"{data} cannot be given to another user ({error.strerror})"
    return ""


def is_given(data: Path) -> bool:
    """Whether the user could write there already, since an earlier start."""
    return data.is_dir() and data.stat().st_gid == USER


def _open_up(folder: Path) -> None:
    """Never by a link: the user could have put one in the folder's place, to get at what it leads to."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(handle, -1, USER)
        os.fchmod(handle, stat.S_IMODE(os.fstat(handle).st_mode) | stat.S_IRWXG | stat.S_ISVTX)
    finally:
        os.close(handle)


def _inside(folder: Path, *, without: Path) -> Iterator[tuple[int, str]]:
    """Open folders and names in them that are root's. What has a second name may be wanted under that one."""
    for base, folders, files, handle in os.fwalk(folder):
        if Path(base) == without.parent and without.name in folders:
            folders.remove(without.name)
        for name in (*folders, *files):
            found = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if found.st_uid == 0 and (found.st_nlink == 1 or stat.S_ISDIR(found.st_mode)):
                yield handle, name


def _code() -> Iterator[Path]:
    """One file of each tree that a process is made of."""
    yield Path(sys.executable)
    yield Path(os.__file__)
    for package in ("mooring", "servers", "tenants", "django"):
        found = importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            yield Path(found.origin)


def _secret_files() -> Iterable[Path]:
    return [
        Path(path)
        for name, path in os.environ.items()
        if name.startswith(_SECRETS) and name.endswith("_FILE") and path
    ]


def closed(path: Path) -> Path | None:
    """What on the way there, or at its end, is not open to everybody. None also where nothing is there yet."""
    for way in {path.absolute(), path.resolve()}:
        for step in (*reversed(way.parents), way):
            mode = step.stat().st_mode if step.exists() else 0o777
            needed = stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
            if not mode & needed:
                return step
    return None


def _stranger(data: Path, runner: Path) -> Path | None:
    """Something in the data directory that Mooring has not made, or that belongs to another user.

    What the user itself has made there is no obstacle, or it could keep us from stepping down.
    """
    for path in data.iterdir() if data.is_dir() else ():
        owner = path.lstat().st_uid
        is_ours = path == runner or path.name.startswith(_OURS)
        if owner != USER and (owner != 0 or not is_ours):
            return path
    return None


def _first_open_port() -> int:
    try:
        return int(_UNPRIVILEGED_PORTS.read_text())
    except (OSError, ValueError):
        return 1024
