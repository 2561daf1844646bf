"""The Python that servers run on: one that any user of this machine may read, found when it is needed.

Ours may lie in somebody's home, where nobody else may look.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from servers.runner.errors import Unbuildable

OLDEST = Version("3.11")
SECONDS = 10.0
_FOLDERS = ("/usr/local/bin", "/usr/bin")
_NAME = re.compile(r"python3\.(\d+)", re.ASCII)
_ASK = (
    "import platform, sys, sysconfig;"
    "print('.'.join(map(str, sys.version_info[:3])), sys.implementation.cache_tag, sysconfig.get_platform(),"
    " sysconfig.get_path('stdlib'), '-'.join(platform.python_build()).replace(' ', '_'), sep='\\n')"
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """`build` tells two Pythons apart whose compiled files are not the same."""

    path: str
    version: str
    build: str

    @property
    def short(self) -> str:
        return short(self.version)


def short(version: str) -> str:
    """As in the folder of its packages: 3.11."""
    return ".".join(version.split(".")[:2])


@dataclass(slots=True)
class Present:
    """Which Python is where now, asked again when the file there is another one."""

    _known: dict[str, tuple[tuple[int, int], str]] = field(default_factory=dict)

    async def at(self, path: str) -> str:
        """Its short version; empty where there is none that can be used."""
        try:
            status = os.stat(path)
        except OSError:
            return ""
        mark = status.st_ino, status.st_mtime_ns
        known = self._known.get(path)
        if known is None or known[0] != mark:
            found = await _asked(path)
            if found is None:
                return ""
            known = self._known[path] = mark, found.short
        return known[1]


async def usable(given: str = "") -> list[Interpreter]:
    """Those that can be used, newest first; only the one at `given` if the operator has chosen one."""
    paths = [given] if given else list(dict.fromkeys(str(path.resolve()) for path in _candidates()))
    found = [interpreter for path in paths if (interpreter := await _asked(path)) is not None]
    return sorted(found, key=lambda each: Version(each.version), reverse=True)


def chosen(interpreters: Iterable[Interpreter], wanted: SpecifierSet) -> Interpreter:
    """The newest that the upload accepts. Raises `Unbuildable`."""
    every = list(interpreters)
    for interpreter in every:
        if wanted.contains(interpreter.version):
            return interpreter
    versions = ", ".join(each.version for each in every)
    raise Unbuildable(f"The upload asks for Python {wanted}; this installation has {versions}.")


def none_usable(given: str = "") -> str:
    """Why uploads cannot run here, in a sentence that says what to do."""
    if given:
        return (
            f"{given} cannot run uploads. It has to be Python {OLDEST} or newer, in a folder that every user of this "
            "machine may enter."
        )
    return (
        f"This machine has no Python {OLDEST} or newer that every user may read: one below /root is not. Install one "
        "under /usr or /usr/local."
    )


def is_open_to_all(path: Path, *, to_list: bool = True) -> bool:
    """Whether any user may get there and read the file; or pass through the folder and, if `to_list`, look into it."""
    try:
        mode = path.stat().st_mode
        needed = (stat.S_IROTH if to_list else 0) | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
        return mode & needed == needed and all(each.stat().st_mode & stat.S_IXOTH for each in path.parents)
    except OSError:
        return False


def _is_for_sandboxes(path: Path) -> bool:
    """As root, sandboxes run as other users; else as ourselves."""
    return os.geteuid() != 0 or is_open_to_all(path)


def _candidates() -> Iterator[Path]:
    yield Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    for folder in map(Path, _FOLDERS):
        if folder.is_dir():
            yield from (path for path in sorted(folder.iterdir()) if _NAME.fullmatch(path.name))


async def _asked(path: str) -> Interpreter | None:
    """None for one that is too old, is not for everybody, or does not start."""
    if not os.access(path, os.X_OK) or not _is_for_sandboxes(Path(path)):
        return None
    process = await asyncio.create_subprocess_exec(
        path,
        "-I",
        "-S",
        "-c",
        _ASK,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    lines = output.decode("utf-8", "replace").splitlines()
    if process.returncode or len(lines) != 5:
        return None
    version, tag, platform, library, build = lines
    if Version(version) < OLDEST or not _is_for_sandboxes(Path(library)):
        return None
    return Interpreter(path, version, f"{tag} {platform} {build}")
