"""Processes of a small installation tell its gateway at once that something changed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from servers.gateway.knocking import NAME, Door, knock
from servers.gateway.wakeups import Wakeups


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a name short enough for a socket, wherever the tests run."""
    with TemporaryDirectory(prefix="knock-", dir="/tmp") as made:
        yield Path(made)


async def test_a_knock_of_another_process_is_heard_at_once(folder: Path, settings: object) -> None:
    settings.DATA_DIR, settings.REDIS_URL = folder, ""  # type: ignore[attr-defined]
    wakeups = Wakeups()
    await wakeups.listen()
    try:
        program = f"from pathlib import Path; from servers.gateway.knocking import knock; knock(Path({str(folder)!r}))"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], check=True, env=environment)
        began = asyncio.get_running_loop().time()
        await wakeups.wait(60)
        assert asyncio.get_running_loop().time() - began < 30
    finally:
        await wakeups.close()


async def test_many_knocks_are_heard_as_few(folder: Path) -> None:
    heard = []
    door = Door(folder, lambda: heard.append(1))
    for _ in range(10):
        knock(folder)
    while not heard:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    door.close()
    assert len(heard) == 1


async def test_a_door_that_was_left_in_a_hurry_is_taken_over(folder: Path) -> None:
    heard = asyncio.Event()
    Door(folder, lambda: None).close()
    assert (folder / NAME).exists()
    door = Door(folder, heard.set)
    knock(folder)
    async with asyncio.timeout(30):
        await heard.wait()
    door.close()


def test_where_nobody_listens_a_knock_does_nothing(folder: Path) -> None:
    knock(folder)
    knock(folder / "no" / "such" / "place")
    knock(folder / ("x" * 200))


async def test_a_path_that_is_too_long_for_a_socket_leaves_polling(folder: Path, settings: object) -> None:
    deep = folder / ("x" * 120)
    deep.mkdir()
    settings.DATA_DIR, settings.REDIS_URL = deep, ""  # type: ignore[attr-defined]
    wakeups = Wakeups()
    await wakeups.listen()
    await wakeups.wait(0.01)
    await wakeups.close()
