"""What builds leave on the disk is bounded: what nobody needs goes, and nothing is built where there is no room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from servers.runner.building import interpreters
from servers.runner.building.builds import Builder, Built, Source
from servers.runner.errors import BuildFailed, Missing, Unbuildable
from servers.runner.sandbox.cgroups import Limiter
from servers.runner.sandbox.users import Users
from tests.sandboxes import PROGRAMS, readable_folder
from tests.servers.runner.building.hand_made import WHEN

USER = 269_000
SERVER = (PROGRAMS / "server.py").read_bytes()


@pytest.fixture
def store(sandboxes: None) -> Iterator[Path]:
    with readable_folder() as folder:
        yield folder / "store"


@pytest.fixture
def builder(store: Path, limiter: Limiter) -> Builder:
    return Builder(store, limiter, Users(USER, 100))


async def build(builder: Builder, data: bytes = SERVER) -> Built:
    return await builder.build(Source(data, "server.py", WHEN))


def inside(store: Path, kind: str) -> set[str]:
    return {path.name for path in (store / kind).iterdir()}


def grow_old(store: Path) -> None:
    for kind in ("artifacts", "environments", "records", "tools"):
        for path in (store / kind).iterdir():
            os.utime(path, (1, 1))


async def test_what_nobody_wanted_for_long_goes_with_all_that_only_it_needed(
    builder: Builder, store: Path, limiter: Limiter
) -> None:
    made = await build(builder)
    old_tools = store / "tools" / "of-an-older-version"
    old_tools.mkdir()
    grow_old(store)
    builder = Builder(store, limiter, Users(USER, 100))  # as after a restart
    assert await builder.tidy([]) == [made.artifact.digest]
    assert [inside(store, kind) for kind in ("artifacts", "environments", "records")] == [set()] * 3
    assert not old_tools.exists()
    assert (await build(builder)).artifact.digest == made.artifact.digest


async def test_what_is_named_stays_with_its_environment(builder: Builder, store: Path) -> None:
    made = await build(builder)
    grow_old(store)
    assert await builder.tidy([made.artifact.digest]) == []
    assert len(inside(store, "environments")) == 1
    assert (await builder.artifacts.open(made.artifact.digest)).size > 0


async def test_what_was_wanted_lately_stays(builder: Builder, store: Path) -> None:
    made = await build(builder)
    grow_old(store)
    assert builder.shelf.wanted(made.artifact.digest) == "modern"
    assert await builder.tidy([]) == []


async def test_an_upload_that_is_built_again_counts_as_wanted(builder: Builder, store: Path) -> None:
    await build(builder)
    grow_old(store)
    await build(builder)
    assert await builder.tidy([]) == []
    assert len(inside(store, "environments")) == 1


async def test_an_upload_that_fails_where_another_worked_does_not_take_it_away(
    builder: Builder, store: Path
) -> None:
    """The same files, and other secrets."""
    code = b"import os\nos.environ['TOKEN']\n" + SERVER
    made = await builder.build(Source(code, "server.py", WHEN, secrets={"TOKEN": "x"}))
    with pytest.raises(Unbuildable):
        await build(builder, code)
    assert inside(store, "artifacts") == {made.artifact.digest}


async def test_what_a_killed_runner_left_unfinished_is_removed(builder: Builder, store: Path) -> None:
    for kind in ("incoming", "doors"):
        (store / kind / "half").mkdir()
        (store / kind / "half" / "file").write_text("")
    builder.clear()
    assert [inside(store, kind) for kind in ("incoming", "doors")] == [set(), set()]


async def test_nothing_is_built_where_there_is_no_room(store: Path, limiter: Limiter) -> None:
    builder = Builder(store, limiter, Users(USER, 100), least_free=2**60)
    with pytest.raises(BuildFailed, match="Make room there"):
        await build(builder)


async def test_another_artifact_stands_in_for_one_that_is_gone(builder: Builder, store: Path) -> None:
    lost, made = [(await build(builder, SERVER + more)).artifact.digest for more in (b"", b"# anew")]
    builder.artifacts.discard(lost)
    assert await builder.lost([lost, made, "0" * 64]) == [lost, "0" * 64]
    await builder.stand_in(lost, made)
    assert (await builder.opened(lost)).digest == made
    assert await builder.lost([lost]) == []
    # Nobody names it by its own name; it stays where the other is named.
    grow_old(store)
    assert await builder.tidy([lost]) == []
    assert (await builder.opened(lost)).digest == made
    grow_old(store)
    assert set(await builder.tidy([])) == {lost, made}
    assert inside(store, "records") == set()


async def test_what_was_built_for_a_python_that_is_another_now_is_lost(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (await build(builder)).artifact
    assert await builder.lost([made.digest]) == []
    for found in ("3.99", ""):
        monkeypatch.setattr(interpreters.Present, "at", AsyncMock(return_value=found))
        assert await builder.lost([made.digest]) == [made.digest]
        with pytest.raises(Missing, match="which is not there any more"):
            await builder.opened(made.digest)


async def test_a_python_is_asked_again_when_another_is_in_its_place(sandboxes: None) -> None:
    present, [ours, *_] = interpreters.Present(), await interpreters.usable()
    with readable_folder() as folder:
        link = folder / "python3"
        assert await present.at(str(link)) == ""
        link.symlink_to(ours.path)
        assert await present.at(str(link)) == ours.short
        link.unlink()
        link.symlink_to("/bin/true")
        assert await present.at(str(link)) == ""
