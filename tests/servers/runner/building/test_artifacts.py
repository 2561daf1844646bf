"""What a build has made is opened as it was made, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from servers.runner.building.builds import Builder, Built
from servers.runner.errors import Missing, Tampered
from servers.runner.sandbox.cgroups import Limiter
from tests.sandboxes import readable_folder
from tests.servers.runner.building.hand_made import build, builder_in, environ_of, needing, server

# Built once for all that look at it.
_plain: list[Built] = []

CHANGES: dict[str, Callable[[Path], object]] = {
    "a file of the upload": lambda folder: (folder / "app/server.py").write_text("evil"),
    "a new file": lambda folder: (folder / "app/sitecustomize.py").write_text("evil"),
    "a link": lambda folder: (folder / "app/more.py").symlink_to("/etc/passwd"),
    "a package": lambda folder: next(folder.glob("venv/lib/*/site-packages/plain.py")).write_text("evil"),
    "compiled code": lambda folder: next(
        folder.glob("venv/lib/*/site-packages/__pycache__/plain*")
    ).write_bytes(b"evil"),
    "a .pth file": lambda folder: (next(folder.glob("venv/lib/*/site-packages")) / "evil.pth").write_text(
        "import evil"
    ),
    "the interpreter": lambda folder: _relink(folder / "venv/bin/python", "/bin/sh"),
    "our own program": lambda folder: (folder / "venv/mooring/__main__.py").write_text("evil"),
    "the entry": lambda folder: (folder / "entry").write_text('["/bin/sh"]'),
    "the lock": lambda folder: (folder / "lock").write_text(""),
    "the manifest": lambda folder: _edit(folder / "manifest.json", "shared", "session"),
    "a file beside": lambda folder: (folder / "more").write_text(""),
    "a file less": lambda folder: (folder / "lock").unlink(),
}


def _relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def _edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("what", CHANGES)
async def test_an_artifact_that_was_changed_does_not_open(
    builder: Builder, limiter: Limiter, shelf: Path, what: str
) -> None:
    if not _plain:
        _plain.append(await build(builder, needing("plain")))
    made = _plain[0]
    with readable_folder() as elsewhere:
        copied = builder_in(elsewhere / "store", limiter, environ_of(shelf)).artifacts
        folder = copied.folder / made.artifact.digest
        shutil.copytree(made.artifact.folder, folder, symlinks=True)
        assert (await copied.open(made.artifact.digest)).manifest == made.artifact.manifest
        CHANGES[what](folder)
        with pytest.raises(Tampered):
            await copied.open(made.artifact.digest)


@pytest.mark.parametrize("digest", ["", "../../etc", "0" * 64, "A" * 64])
async def test_an_artifact_nobody_has_built_does_not_open(builder: Builder, digest: str) -> None:
    with pytest.raises(Missing):
        await builder.artifacts.open(digest)


async def test_a_removed_artifact_is_gone_and_its_environment_serves_the_next(builder: Builder) -> None:
    made = await build(builder, needing("plain", code=server("'gone'")))
    await builder.artifacts.remove(made.artifact.digest)
    with pytest.raises(Missing):
        await builder.artifacts.open(made.artifact.digest)
    assert (
        await build(builder, needing("plain", code=server("'gone'")))
    ).artifact.digest == made.artifact.digest
