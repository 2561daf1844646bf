"""`mooring runner` as a process: it starts, it stops, it is killed, and nothing is ever left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from servers.runner.client import SOCKET, TOKEN, RunnerClient
from servers.runner.engine import BuildEvent, BuildSpec, Limits, RunSpec
from servers.runner.errors import BuildFailed, Malformed, Refused, Unauthorized, Unready
from servers.runner.local import name_of
from servers.runner.sandbox import cgroups
from servers.runner.supervisor import STORES
from tests.deploy_lint import RUNNER_POWERS
from tests.runners import call, spec_of
from tests.sandboxes import PROGRAMS, PYTHON, make_artifact

GROUP = 65_534
BUILD = BuildSpec(name="server.py", when=datetime.now(UTC))


@pytest.fixture
def folder(workshop: Path, request: pytest.FixtureRequest) -> Path:
    """Short, since the path of a socket may not be long."""
    path = workshop / f"r{abs(hash(request.node.name)) % 10**6}"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def artifact(workshop: Path) -> Path:
    return make_artifact(workshop / "artifact", "server.py")


def started(
    folder: Path, *options: str, powers: Iterable[str] | None = None, **variables: str
) -> subprocess.Popen[bytes]:
    """`powers` are the only capabilities it may have (None: all), as those of a container."""
    command = [sys.executable, "-m", "mooring.cli.running", "runner", "--folder", str(folder), *options]
    if powers is not None:
        bounds = ",".join(["-all", *(f"+{power.lower()}" for power in powers)])
        command = ["setpriv", "--no-new-privs", f"--bounding-set={bounds}", "--inh-caps=-all", *command]
    environment = os.environ | {"MOORING_SECRET_KEY": "the-platforms-own-secret"} | variables
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@asynccontextmanager
async def runner(
    folder: Path, *options: str, powers: Iterable[str] | None = None, **variables: str
) -> AsyncIterator[tuple[subprocess.Popen[bytes], RunnerClient]]:
    process = started(folder, *options, powers=powers, **variables)
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
        if process.stdout is not None and not process.stdout.closed:
            await asyncio.to_thread(process.communicate)


async def answers(client: RunnerClient) -> bool:
    """A socket alone may be that of a runner which was killed."""
    try:
        await client.instances()
    except (Refused, OSError):
        return False
    return True


def groups_of(folder: Path) -> list[Path]:
    """The runner's own. They come and go while they are looked for."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return list(Path("/sys/fs/cgroup").glob(f"**/{name_of(folder)}*"))


def sandboxes_of(folder: Path) -> list[Path]:
    """Those of its sandboxes, without the ones of tenants around them."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            found = [inner for group in groups_of(folder) for inner in group.rglob("*") if inner.is_dir()]
            return [inner for inner in found if not inner.name.startswith("t-")]


def names_of(paths: list[Path]) -> set[str]:
    return {path.name for path in paths}


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
    assert sorted(path.name for path in folder.iterdir()) == ["runner.lock", "store"]


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


# ---- as a container starts it ----------------------------------------------------------------------------


async def test_the_capabilities_that_compose_gives_are_enough_for_everything(folder: Path) -> None:
    options = ("--group", str(GROUP))
    async with runner(folder, *options, powers=RUNNER_POWERS) as (process, client):
        found = await client.probe()
        assert (found.is_safe, found.missing) == (True, ())
        result = await client.build(BUILD, (PROGRAMS / "server.py").read_bytes())
        spec = RunSpec(tenant="acme", server="tools", digest=result.digest, hosts=("api.example.com",))
        endpoint = await client.ensure(spec)
        assert (await call(endpoint, "echo", a=1)).text == '{"a": 1}'
        await client.drain(endpoint.instance)
        assert await client.instances() == []
        await call(await client.ensure(spec), "daemon")
        family = descendants(process.pid)
        process.kill()
        await until(lambda: alive(family) == set() and groups_of(folder) == [])
        await asyncio.to_thread(process.wait, 20)
    async with runner(folder, *options, powers=RUNNER_POWERS) as (_, client):
        assert (await call(await client.ensure(spec), "echo", a=1)).text == '{"a": 1}'


@pytest.mark.parametrize("power", sorted(RUNNER_POWERS))
async def test_without_any_one_of_them_it_does_not_start_or_runs_nobodys_code(
    folder: Path, power: str
) -> None:
    # Whether anything is left to be killed when what it tries at its start has ended is a matter of moments.
    for _ in range(5 if power == "KILL" else 1):
        said = await said_without(folder, power)
        if b"refuses to run servers" in said or b"Operation not permitted" in said:
            return
    raise AssertionError(said)


async def said_without(folder: Path, power: str) -> bytes:
    process = started(folder, "--group", str(GROUP), powers=RUNNER_POWERS - {power})
    try:
        assert process.stdout is not None
        said = b""
        while b"is ready" not in said and (line := await asyncio.to_thread(process.stdout.readline)):
            said += line
    finally:
        process.terminate()
        await asyncio.to_thread(process.communicate)
    return said


# ---- where files live ------------------------------------------------------------------------------------


async def test_what_was_built_is_there_after_a_restart(folder: Path) -> None:
    async with runner(folder) as (_, client):
        result = await client.build(BUILD, (PROGRAMS / "server.py").read_bytes())
    spec = RunSpec(tenant="acme", server="tools", digest=result.digest)
    async with runner(folder) as (_, client):
        endpoint = await client.ensure(spec)
        assert (await call(endpoint, "echo", a=1)).text == '{"a": 1}'


async def test_a_folder_that_only_root_may_enter_keeps_its_artifacts_elsewhere(folder: Path) -> None:
    """As in a checkout below /root."""
    folder.chmod(0o700)
    inner = folder / "runner"
    store = STORES / name_of(inner).removeprefix("mooring-")
    try:
        async with runner(inner) as (process, client):
            assert (await client.probe()).missing == ()
            result = await client.build(BUILD, (PROGRAMS / "server.py").read_bytes())
            endpoint = await client.ensure(RunSpec(tenant="acme", server="tools", digest=result.digest))
            assert (await call(endpoint, "who")).text == "65534"
            assert (store / "artifacts" / result.digest).is_dir()
            process.terminate()
            output = (await asyncio.to_thread(process.communicate))[0].decode()
        assert output.count(f"is kept in {store}.") == 1
    finally:
        shutil.rmtree(store)
        with contextlib.suppress(OSError):  # others may have theirs there
            STORES.rmdir()


async def test_a_python_that_other_users_cannot_read_is_told_at_the_start(folder: Path) -> None:
    hidden = folder / "hidden"
    hidden.mkdir(mode=0o700)
    python = hidden / "python3"
    python.symlink_to(PYTHON)
    async with runner(folder, MOORING_RUNNER_PYTHON=str(python)) as (_, client):
        [sentence] = (await client.probe()).missing
        assert sentence.startswith(f"{python} cannot run uploads.")
        with pytest.raises(BuildFailed) as told:
            await client.build(BUILD, (PROGRAMS / "server.py").read_bytes())
        assert told.value.message == sentence


async def test_a_store_that_other_users_cannot_enter_is_told_at_the_start(folder: Path) -> None:
    (folder / "mine").mkdir(mode=0o700)
    async with runner(folder, MOORING_RUNNER_STORE=str(folder / "mine" / "store")) as (_, client):
        [sentence] = (await client.probe()).missing
        assert sentence.startswith("Other users cannot enter ")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_the_end_of_a_runner_is_that_of_its_builds(folder: Path, end: signal.Signals) -> None:
    silent = b"import time\nwhile True:\n    time.sleep(1)\n"
    tried = asyncio.Event()

    def heard(event: BuildEvent) -> None:
        if event.stage == "try":
            tried.set()

    async with runner(folder) as (process, client):
        building = asyncio.create_task(client.build(BUILD, silent, heard))
        await asyncio.wait_for(tried.wait(), 60)
        await until(lambda: any("try-" in path.name for path in sandboxes_of(folder)))
        family = descendants(process.pid)
        process.send_signal(end)
        with pytest.raises(Refused):
            await building
        await asyncio.to_thread(process.wait, 20)
        await until(lambda: alive(family) == set() and groups_of(folder) == [])
    async with runner(folder):
        assert list((folder / "store" / "incoming").iterdir()) == []
        assert list((folder / "store" / "doors").iterdir()) == []


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_what_waits_to_be_called_again_ends_with_the_runner(folder: Path, end: signal.Signals) -> None:
    async with runner(folder) as (process, client):
        result = await client.build(BUILD, (PROGRAMS / "server.py").read_bytes())
        spec = RunSpec(tenant="acme", server="tools", digest=result.digest, limits=Limits(idle=0.5))
        endpoint = await client.ensure(spec)
        [first] = names_of(sandboxes_of(folder))
        await until(lambda: names_of(sandboxes_of(folder)) - {first} != set())
        assert (await client.instances())[0].state == "stopped"
        assert (await call(endpoint, "count")).text == "1"
        await until(lambda: first not in names_of(sandboxes_of(folder)))
        family = descendants(process.pid)
        process.send_signal(end)
        await asyncio.to_thread(process.wait, 20)
        await until(lambda: alive(family) == set() and groups_of(folder) == [])


async def test_two_runners_do_not_share_a_store(folder: Path) -> None:
    shared = str(folder / "shared")
    async with runner(folder / "one", MOORING_RUNNER_STORE=shared):
        second = started(folder / "two", MOORING_RUNNER_STORE=shared)
        output, _ = await asyncio.to_thread(second.communicate)
        assert second.returncode == 1
        assert f"Another runner is already running on {shared}." in output.decode()


async def test_a_server_may_reach_no_address_of_this_machine(folder: Path) -> None:
    """The rule of the installation is handed down to the ways out, whatever a name means here."""
    spec = msgspec.structs.replace(BUILD, name="caller.py")
    async with runner(folder, MOORING_EGRESS_ALLOW="") as (_, client):
        result = await client.build(spec, (PROGRAMS / "caller.py").read_bytes())
        hosts = ("localhost",)
        endpoint = await client.ensure(
            RunSpec(tenant="acme", server="tools", digest=result.digest, hosts=hosts)
        )
        reply = await call(endpoint, "fetch", url="http://localhost/", by="urllib")
        assert json.loads(reply.text) == [403, "localhost is not on the public internet.\n"]


# ---- what it is asked ------------------------------------------------------------------------------------

WRONG = {
    "too much memory": {"limits": Limits(memory=2**40)},
    "no name of a variable": {"variables": {"A B": "x"}},
    "a zero byte in a value": {"variables": {"A": "x\0y"}},
    "a zero byte in the command": {"entry": ("python3", "a\0b")},
    "a relative path": {"artifact": "artifact"},
}


async def test_what_it_is_asked_is_checked(folder: Path, artifact: Path) -> None:
    async with runner(folder) as (_, client):
        for name, changes in WRONG.items():
            with pytest.raises(Refused) as told:
                await client.ensure(msgspec.structs.replace(spec_of(artifact), **changes))
            assert (told.value.status, told.value.code) == (400, "malformed"), name


async def test_what_makes_no_sense_together_is_refused_too(folder: Path, artifact: Path) -> None:
    async with runner(folder) as (_, client):
        for changes in ({"entry": []}, {"artifact": ""}, {"hosts": ["10.0.0.1"]}, {"hosts": ["*.com"]}):
            spec = {**msgspec.to_builtins(spec_of(artifact)), **changes}
            with pytest.raises(Malformed):
                await client._ask("POST", "/ensure", dict, {"spec": spec})


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
