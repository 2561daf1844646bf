"""Folders that must stay what they were: one digest over every file and link below."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from servers.runner.errors import Tampered


def digest(folder: Path, *, without: str = "") -> str:
    """SHA-256 in hex over the sorted `[path, sha256 or target of a link, size]`, but for one folder `without`.

    Raises `Tampered` for anything that is neither file, link nor folder, or that vanishes meanwhile.
    """
    try:
        found = [each for each in _below(str(folder)) if not without or not each[0].startswith(f"{without}/")]
        rows = [[path, *_content(f"{folder}/{path}", status)] for path, status in sorted(found, key=_by_path)]
    except OSError as error:
        raise Tampered(f"{folder.name} cannot be read ({type(error).__name__}).") from None
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def signature(folder: Path) -> str:
    """What changes with every write, found out without reading: enough to know that a checked folder still is one."""
    seen = hashlib.sha256()
    for path, of in sorted(_below(str(folder)), key=_by_path):
        # Another artifact that links to the same file changes the time of its links, and nothing else.
        links = of.st_ctime_ns if of.st_nlink == 1 else 0
        seen.update(f"{path}\0{of.st_ino} {of.st_mode} {of.st_size} {of.st_mtime_ns} {links}\n".encode())
    return seen.hexdigest()


def size(folder: Path) -> int:
    """Bytes of the files below."""
    return sum(status.st_size for _, status in _below(str(folder)))


def _content(path: str, status: os.stat_result) -> tuple[str, int]:
    if stat.S_ISLNK(status.st_mode):
        return f"link:{os.readlink(path)}", 0
    if not stat.S_ISREG(status.st_mode):
        raise Tampered(f"{os.path.basename(path)} is neither a file nor a folder.")
    with open(path, "rb", buffering=0) as file:
        return hashlib.sha256(file.read()).hexdigest(), status.st_size


def _below(folder: str, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Everything below but folders; links to folders too, which are not followed. Raises OSError."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, f"{path}/")
            else:
                yield path, entry.stat(follow_symlinks=False)


def _by_path(found: tuple[str, os.stat_result]) -> str:
    return found[0]
