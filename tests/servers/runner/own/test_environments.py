"""Environments of one's own programs, from a folder of packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from servers.runner.errors import Unbuildable
from servers.runner.own import environments
from tests.servers.runner.building.wheels import make_wheel


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from uv import find_uv_bin  # a program that is installed as a package

    packages = tmp_path / "packages"
    packages.mkdir()
    make_wheel(packages, "lighthouse")
    monkeypatch.setenv("UV_FIND_LINKS", str(packages))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return Path(find_uv_bin())


async def test_what_a_program_needs_is_installed_once(tmp_path: Path, uv: Path) -> None:
    said: list[str] = []
    python = await environments.ensure(tmp_path / "made", uv, ["lighthouse"], said.append)
    told = subprocess.run(
        [python, "-c", "import lighthouse; print(lighthouse.VALUE)"], capture_output=True, check=True
    )
    assert told.stdout.strip() == b"1"
    assert said
    said.clear()
    assert await environments.ensure(tmp_path / "made", uv, ["lighthouse"], said.append) == python
    assert said == []


async def test_what_cannot_be_installed_is_told_and_leaves_nothing(tmp_path: Path, uv: Path) -> None:
    with pytest.raises(Unbuildable, match="no-such-package"):
        await environments.ensure(tmp_path / "made", uv, ["no-such-package"], lambda _: None)
    assert list((tmp_path / "made").iterdir()) == []


async def test_a_program_that_needs_nothing_runs_on_our_own_python(tmp_path: Path, uv: Path) -> None:
    assert await environments.ensure(tmp_path / "made", uv, [], lambda _: None) == Path(sys.executable)
