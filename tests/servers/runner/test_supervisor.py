"""`mooring runner` as a process: it starts, it stops, it is killed, and nothing is ever left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from servers.runner.client import SOCKET, TOKEN, RunnerClient
from servers.runner.engine import Limits
from servers.runner.errors import Refused, Unauthorized, Unready
from servers.runner.local import Settings
from servers.runner.sandbox import cgroups
from tests.runners import call, spec_of
from tests.sandboxes import make_artifact

GROUP = 65_534


@pytest.fixture
def folder(workshop: Path, request: pytest.FixtureRequest) -> Path:
    """Short, since the path of a socket may not be long."""
    path = workshop / f"r{abs(hash(request.node.name)) % 10**6}"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def artifact(workshop: Path) -> Path:
    return make_artifact(workshop / "artifact", "server.py")


def started(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mooring.cli.running", "runner", "--folder", str(folder), *options]
    environment = os.environ | {"MOORING_SECRET_KEY": "the-platforms-own-secret"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@asynccontextmanager
async def runner(folder: Path, *options: str) -> AsyncIterator[tuple[subprocess.Popen[bytes], RunnerClient]]:
    process = started(folder, *options)
    client = RunnerClient(folder)
    try:
        async with asyncio.timeout(60):
            while not await answers(client):
                assert process.poll() is None, process.communicate()[0]
                await asyncio.sleep(0.02)
        yield process, client
    finally:
        await client.close()
        if process.poll() is None:
            process.terminate()
        await asyncio.to_thread(process.communicate)


async def answers(client: RunnerClient) -> bool:
    """A socket alone may be that of a runner which was killed."""
    try:
        await client.instances()
    except (Refused, OSError):
        return False
    return True


def name_of(folder: Path) -> str:
    return Settings(folder=folder, memory=0, bearer="").name


def groups_of(folder: Path) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/{name_of(folder)}*"))


def descendants(process: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for number, parent in _parents():
        children.setdefault(parent, []).append(number)
    found: set[int] = set()
    wanted = [process]
    while wanted:
        for child in children.get(wanted.pop(), []):
            found.add(child)
            wanted.append(child)
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            yield int(path.parent.name), int(fields[1])


def alive(processes: set[int]) -> set[int]:
    return {number for number, _ in _parents()} & processes


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_it_runs_until_it_is_told_to_stop_and_finishes_what_runs(folder: Path, artifact: Path) -> None:
    async with runner(folder) as (process, client):
        assert (await client.probe()).is_safe
        endpoint = await client.ensure(spec_of(artifact))
        running = asyncio.create_task(call(endpoint, "sleep", seconds=0.7))
        while (await client.instances())[0].in_flight < 1:
            await asyncio.sleep(0.02)
        family = descendants(process.pid)
        assert len(family) >= 4  # bubblewrap twice, the server, and the one that cleans up
        process.terminate()
        assert (await running).status == 200
        assert await asyncio.to_thread(process.wait, 20) == 0
    assert alive(family) == set()
    assert groups_of(folder) == []
    assert sorted(path.name for path in folder.iterdir()) == ["runner.lock"]


async def test_killing_it_leaves_no_process_no_group_and_no_mount(folder: Path, artifact: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    async with runner(folder) as (process, client):
        for number in range(3):
            endpoint = await client.ensure(spec_of(artifact, server=f"server-{number}"))
            await call(endpoint, "daemon")
        family = descendants(process.pid)
        assert len(groups_of(folder)) >= 3
        process.kill()
        await until(lambda: alive(family) == set() and groups_of(folder) == [])
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert not (folder / SOCKET).exists()
    assert not (folder / TOKEN).exists()


async def test_killing_it_together_with_its_cleaner_is_mended_by_the_next_start(
    folder: Path, artifact: Path
) -> None:
    async with runner(folder) as (process, client):
        await client.ensure(spec_of(artifact))
        family = descendants(process.pid)
        [cleaner] = [
            number for number in family if b"leftovers" in Path(f"/proc/{number}/cmdline").read_bytes()
        ]
        os.kill(cleaner, signal.SIGKILL)
        process.kill()
        await until(lambda: alive(family) == set())
        assert groups_of(folder) != []
    async with runner(folder) as (process, client):
        names = cgroups.find(name_of(folder)).names()
        assert names == []
        assert await client.ensure(spec_of(artifact))
    assert groups_of(folder) == []


async def test_only_its_user_and_one_group_may_talk_to_it(folder: Path) -> None:
    async with runner(folder, "--group", str(GROUP)) as (_, client):
        for name in (SOCKET, TOKEN):
            found = (folder / name).stat()
            assert stat.S_IMODE(found.st_mode) & 0o7 == 0
            assert (found.st_uid, found.st_gid) == (0, GROUP)
        assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o660
        (folder / TOKEN).write_text("another")
        with pytest.raises(Unauthorized):
            await client.instances()


async def test_a_second_runner_is_refused(folder: Path) -> None:
    async with runner(folder):
        second = started(folder)
        output, _ = await asyncio.to_thread(second.communicate)
        assert second.returncode == 1
        assert f"Another runner is already running on {folder}." in output.decode()


WRONG = {
    "too much memory": {"limits": Limits(memory=2**40)},
    "no name of a variable": {"variables": {"A B": "x"}},
    "a zero byte in a value": {"variables": {"A": "x\0y"}},
    "a zero byte in the command": {"entry": ("python3", "a\0b")},
    "no command": {"entry": ()},
    "a relative path": {"artifact": "artifact"},
}


async def test_what_it_is_asked_is_checked(folder: Path, artifact: Path) -> None:
    async with runner(folder) as (_, client):
        for name, changes in WRONG.items():
            with pytest.raises(Refused) as told:
                await client.ensure(msgspec.structs.replace(spec_of(artifact), **changes))
            assert (told.value.status, told.value.code) == (400, "malformed"), name


async def test_a_runner_that_is_not_there_is_told(folder: Path) -> None:
    (folder / TOKEN).write_text("x")
    client = RunnerClient(folder)
    with pytest.raises(Unready, match="cannot be reached"):
        await client.instances()
    await client.close()


async def test_the_platforms_own_secrets_do_not_reach_a_server(folder: Path, artifact: Path) -> None:
    """The runner was started with one in its environment, as operators do."""
    async with runner(folder) as (process, client):
        endpoint = await client.ensure(spec_of(artifact))
        assert (await call(endpoint, "environment", name="MOORING_SECRET_KEY")).text == ""
        for number in descendants(process.pid):
            assert b"the-platforms-own-secret" not in Path(f"/proc/{number}/environ").read_bytes()
