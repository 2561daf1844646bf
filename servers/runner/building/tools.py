"""What a build's sandbox is given to work with: uv and our programs, copied to where every user may read them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from servers.runner.building.inside import programs
from servers.runner.errors import BuildFailed
from servers.runner.sandbox.launcher import Tree

INSIDE = "/tools"
UV, PROGRAMS = f"{INSIDE}/uv", f"{INSIDE}/programs"
_PACKAGE = "_mooring"
_MAIN = f"from {_PACKAGE}.programs import main\n\nmain()\n"


@dataclass(frozen=True, slots=True)
class Tools:
    folder: Path
    # SHA-256 in hex of our programs: an artifact carries a copy of them.
    programs: str

    @property
    def tree(self) -> Tree:
        return Tree(str(self.folder), INSIDE)

    def copy_programs(self, target: Path) -> None:
        shutil.copytree(self.folder / "programs", target)


def prepared(folder: Path) -> Tools:
    """The tools of this version of Mooring below `folder`, copied there the first time. Raises `BuildFailed`."""
    uv = _uv()
    sources = _sources()
    digest = hashlib.sha256(
        b"".join(f"{name}\0{len(text)}\0".encode() + text for name, text in sources)
    ).hexdigest()
    status = uv.stat()
    known = hashlib.sha256(f"{digest} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]
    target = folder / known
    if not target.is_dir():
        _copy(uv, sources, target)
    return Tools(target, digest)


def _copy(uv: Path, sources: list[tuple[str, bytes]], target: Path) -> None:
    made = Path(tempfile.mkdtemp(dir=target.parent))
    shutil.copyfile(uv, made / "uv")
    os.chmod(made / "uv", 0o755)
    package = made / "programs" / _PACKAGE
    package.mkdir(parents=True)
    for name, text in [
        *((f"{_PACKAGE}/{name}", text) for name, text in sources),
        ("__main__.py", _MAIN.encode()),
    ]:
        path = made / "programs" / name
        path.write_bytes(text)
        os.chmod(path, 0o644)
    for path in (made, made / "programs", package):
        os.chmod(path, 0o755)
    try:
        made.rename(target)
    except OSError:  # another build was first
        shutil.rmtree(made)


def _sources() -> list[tuple[str, bytes]]:
    folder = Path(programs.__file__).parent
    return [(path.name, path.read_bytes()) for path in sorted(folder.glob("*.py"))]


def _uv() -> Path:
    """The program of the package uv. Raises `BuildFailed`."""
    try:
        from uv import find_uv_bin  # only the runner needs it, and an installation may have none
    except ImportError:
        raise BuildFailed("The package uv is not installed beside Mooring: pip install uv.") from None
    try:
        return Path(find_uv_bin())
    except FileNotFoundError:
        raise BuildFailed("The package uv has no program for this machine.") from None
