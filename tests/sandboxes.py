"""What tests of sandboxes stand on: bubblewrap, artifacts that the users of servers can read, and their programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import files, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROGRAMS = Path(__file__).parent / "servers" / "runner" / "programs"
PYTHON = "/usr/bin/python3"


def require_sandboxes() -> None:
    """Only root can make sandboxes. As root bubblewrap is installed where we may, and without it tests fail."""
    if os.geteuid() != 0:
        pytest.skip("Sandboxes need root.")
    if os.environ.get("MOORING_TEST_NO_SANDBOX"):
        pytest.skip("MOORING_TEST_NO_SANDBOX is set.")
    if shutil.which("bwrap") is None and shutil.which("apt-get"):
        for step in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "bubblewrap"]):
            subprocess.run(["apt-get", *step], check=False, capture_output=True, timeout=600)
    if shutil.which("bwrap") is None:
        pytest.fail("Sandboxes need bubblewrap; set MOORING_TEST_NO_SANDBOX to do without these tests.")


@contextmanager
def readable_folder() -> Iterator[Path]:
    """A temporary folder that any user of the machine may enter, as the store of artifacts is."""
    folder = Path(tempfile.mkdtemp(prefix="mooring-artifacts-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def make_artifact(folder: Path, *programs: str) -> Path:
    """An artifact with some of the programs as its code."""
    (folder / "app").mkdir(parents=True)
    for name in programs:
        shutil.copy(PROGRAMS / name, folder / "app" / name)
    return folder


def add_packages(artifact: Path, *names: str) -> None:
    """Give it a virtual environment with installed packages of ours and all they need, compiled as they are."""
    venv = artifact / "venv"
    version = subprocess.run(
        [PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True
    ).stdout.strip()
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(PYTHON)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    target = venv / "lib" / f"python{version}" / "site-packages"
    source = Path(sysconfig.get_path("purelib"))
    folders = {part for name in _closure(names) for part in _top_level(source, name)}
    for name in sorted(folders):
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)


def _closure(names: tuple[str, ...]) -> set[str]:
    """Distributions that these need, extras included."""
    found: set[tuple[str, str]] = set()
    wanted = [(name, "") for name in names]
    while wanted:
        name, extra = wanted.pop()
        if (name, extra) not in found:
            found.add((name, extra))
            needed = map(Requirement, requires(name) or [])
            matching = [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
            wanted += [(one.name, extra) for one in matching for extra in ("", *one.extras)]
    return {name for name, _ in found}


def _top_level(source: Path, name: str) -> set[str]:
    return {path.parts[0] for path in files(name) or [] if path.parts[0] not in {"..", "__pycache__"}}
