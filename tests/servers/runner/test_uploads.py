"""From an upload to a call, with everything real: built, kept, started by its digest, let out to its hosts, removed.

One build serves this file.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from servers.runner.client import RunnerClient
from servers.runner.engine import BuildEvent, BuildResult, BuildSpec, LogLine, RunSpec
from servers.runner.errors import Missing, Tampered, Unbuildable
from servers.runner.instance import Rules
from servers.runner.local import LocalEngine
from tests.runners import Clock, call, local_engine
from tests.sandboxes import PROGRAMS
from tests.servers.runner.test_egress import LOOPBACK, Origin, listening

pytestmark = pytest.mark.asyncio(loop_scope="module")
CLOCK = Clock()
CALLER = (PROGRAMS / "caller.py").read_bytes()
# What names mean here. One means something else each time it is asked for.
NAMES = {
    "allowed.example": [LOOPBACK],
    "unlisted.example": [LOOPBACK],
    "metadata.example": ["169.254.169.254"],
    "private.example": ["10.0.0.1"],
}


@dataclass
class Stage:
    engine: LocalEngine
    client: RunnerClient
    origin: Origin
    result: BuildResult
    store: Path

    def spec(self, server: str, **changes: Any) -> RunSpec:
        return RunSpec(tenant="acme", server=server, digest=self.result.digest, **changes)

    @property
    def hosts(self) -> tuple[str, ...]:
        listed = ("allowed", "metadata", "private", "rebinding")
        return tuple(f"{name}.example:{self.origin.port}" for name in listed)

    async def written(self, server: str) -> list[LogLine]:
        """What the upload itself has said."""
        lines = await self.client.server_logs("acme", server)
        return [line for line in lines if line.source == "stderr"]


def build_spec(name: str = "caller.py", **changes: Any) -> BuildSpec:
    return BuildSpec(name=name, when=datetime.now(UTC), **changes)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(workshop: Path) -> AsyncIterator[Stage]:
    folder = workshop / "u"
    folder.mkdir(mode=0o711)
    origin, rebound = Origin(), [[LOOPBACK], ["127.0.0.2"]]

    async def lookup(host: str, port: int) -> list[str]:
        if host == "rebinding.example":
            return rebound.pop(0) if len(rebound) > 1 else rebound[0]
        return NAMES[host]

    def permits(address: str, port: int) -> bool:
        return (address, port) == (LOOPBACK, origin.port)

    async with (
        listening(origin.handle) as origin.port,
        local_engine(folder, clock=CLOCK, rules=Rules(), permits=permits, lookup=lookup) as engine,
    ):
        client = RunnerClient(folder)
        result = await client.build(build_spec(), CALLER)
        yield Stage(engine, client, origin, result, folder / "store")
        await client.close()


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def empty(stage: Stage) -> AsyncIterator[None]:
    """Each test leaves no instance, no control group and no way out."""
    yield
    for info in await stage.engine.instances():
        await stage.engine.stop(info.instance)
    assert stage.engine._limiter.names() == []
    assert list((stage.store / "doors").iterdir()) == []
    assert list((stage.store / "incoming").iterdir()) == []


async def fetched(stage: Stage, host: str, by: str, **changes: Any) -> tuple[int, str]:
    endpoint = await stage.client.ensure(stage.spec("caller", **changes))
    reply = await call(endpoint, "fetch", url=f"http://{host}:{stage.origin.port}/path", by=by)
    status, text = json.loads(reply.text)
    return status, text


# ---- building and starting -----------------------------------------------------------------------------------


async def test_an_upload_becomes_an_artifact_with_what_it_lists(stage: Stage) -> None:
    events: list[BuildEvent] = []
    result = await stage.client.build(build_spec(), CALLER, events.append)
    assert result == stage.result
    assert result.tools == ({"name": "fetch", "inputSchema": {"type": "object"}},)
    assert (result.target, result.mode, result.era) == ("caller.py", "shared", "modern")
    assert any(package.startswith("httpx==") for package in result.packages)
    assert {event.stage for event in events} >= {
        "read",
        "declare",
        "resolve",
        "install",
        "pack",
        "try",
        "done",
    }


async def test_a_version_that_was_built_is_started_by_its_digest(stage: Stage) -> None:
    endpoint = await stage.client.ensure(stage.spec("caller"))
    assert endpoint.era == "modern"
    assert json.loads((await call(endpoint, "fetch", url="nonsense", by="urllib")).text)[0] == 0


async def test_the_era_is_known_after_a_restart_of_the_runner(stage: Stage) -> None:
    spec = stage.spec("caller")
    assert (await stage.engine._resolved(spec)).era == "modern"
    folder = stage.store.parent / "again"
    folder.mkdir()
    async with local_engine(folder, store=stage.store) as engine:
        assert (await engine._resolved(spec)).era == "modern"
        assert (await engine.ensure(spec)).era == "modern"


async def test_an_artifact_that_was_changed_is_not_started(stage: Stage) -> None:
    code = stage.store / "artifacts" / stage.result.digest / "app" / "caller.py"
    spec = stage.spec("changed")
    try:
        code.write_bytes(CALLER + b"\n")
        with pytest.raises(Tampered):
            await stage.client.ensure(spec)
    finally:
        code.write_bytes(CALLER)
    [info] = await stage.client.instances()
    await stage.client.stop(info.instance)
    assert await stage.client.ensure(spec)


async def test_an_upload_that_does_not_start_leaves_no_artifact(stage: Stage) -> None:
    before = set((stage.store / "artifacts").iterdir())
    with pytest.raises(Unbuildable) as told:
        await stage.client.build(build_spec("broken.py"), b"import sys\nsys.exit('no reason')\n")
    assert told.value.data["stage"] == "try"
    assert any("no reason" in line for line in told.value.data["log"])
    assert set((stage.store / "artifacts").iterdir()) == before


async def test_hanging_up_ends_a_build_and_leaves_nothing(stage: Stage) -> None:
    before = set((stage.store / "artifacts").iterdir())
    tried = asyncio.Event()

    def heard(event: BuildEvent) -> None:
        if event.stage == "try":
            tried.set()

    silent = b"import time\nwhile True:\n    time.sleep(1)\n"
    building = asyncio.create_task(stage.client.build(build_spec("silent.py"), silent, heard))
    await asyncio.wait_for(tried.wait(), 60)
    building.cancel()
    await asyncio.wait([building])
    async with asyncio.timeout(20):
        while stage.engine._limiter.names() or set((stage.store / "artifacts").iterdir()) != before:
            await asyncio.sleep(0.02)


async def test_a_version_that_was_evicted_is_woken_from_a_process_that_waits(stage: Stage) -> None:
    spec = stage.spec("waiting", hosts=stage.hosts, secrets={"TOKEN": "secret-1"})
    for is_killed in (False, True):
        endpoint = await stage.client.ensure(spec)
        lines = len(await stage.written("waiting"))
        CLOCK.pass_(600)
        await stage.engine.reconcile()
        spares = stage.engine._instances._spares
        async with asyncio.timeout(20):
            while not spares.has(endpoint.instance):
                await asyncio.sleep(0.02)
        # Nothing of the upload has run, or it would have said what it starts with.
        assert len(await stage.written("waiting")) == lines
        [spare] = spares._held.values()
        if is_killed:
            spare.process.relay.kill("a test")  # type: ignore[attr-defined]
            await spare.process.gone
        reply = await call(
            endpoint, "fetch", url=f"http://allowed.example:{stage.origin.port}/woken", by="urllib"
        )
        assert json.loads(reply.text) == [200, "hello"]
        assert spare.process.gone.done() == is_killed
        new = (await stage.written("waiting"))[lines:]
        assert [line.text for line in new] == ["starts with ***"]


async def test_the_next_session_gets_a_process_that_waits_with_a_log_of_its_own(stage: Stage) -> None:
    spec = stage.spec("sessions", mode="session")
    spares = stage.engine._instances._spares
    for name in ("one", "two"):
        endpoint = await stage.client.ensure(spec, name)
        assert [line.text for line in await stage.client.logs(endpoint.instance)] == ["starts with nothing"]
        async with asyncio.timeout(20):
            while not len(spares):
                await asyncio.sleep(0.02)
    lines = await stage.client.server_logs("acme", "sessions")
    assert [line.text for line in lines] == ["starts with nothing"] * 2
    assert lines[1].instance == endpoint.instance
    [spare] = spares._held.values()
    assert (await stage.client.ensure(spec, "three")).era == "modern"
    assert not spare.process.gone.done()


# ---- the way out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["urllib", "httpx", "tunnel"])
async def test_a_listed_host_is_reached(stage: Stage, by: str) -> None:
    assert await fetched(stage, "allowed.example", by, hosts=stage.hosts) == (200, "hello")
    assert stage.origin.heads[-1].startswith("GET /path ")


@pytest.mark.parametrize(
    "host",
    ["unlisted.example", "127.0.0.1", "169.254.169.254", "metadata.example", "private.example", "0x7f000001"],
)
@pytest.mark.parametrize("by", ["urllib", "httpx", "tunnel"])
async def test_everything_else_is_refused(stage: Stage, host: str, by: str) -> None:
    before = len(stage.origin.heads)
    status, _ = await fetched(stage, host, by, hosts=stage.hosts)
    assert (status, len(stage.origin.heads)) == (403, before)


async def test_a_name_that_comes_to_mean_something_else_is_asked_for_once(stage: Stage) -> None:
    for _ in range(2):
        assert await fetched(stage, "rebinding.example", "urllib", hosts=stage.hosts) == (200, "hello")


@pytest.mark.parametrize("host", ["allowed.example", "127.0.0.1"])
async def test_there_is_no_way_out_by_default(stage: Stage, host: str) -> None:
    before = len(stage.origin.heads)
    for by in ("urllib", "httpx", "tunnel"):
        status, reason = await fetched(stage, host, by)
        assert (status, len(stage.origin.heads)) == (0, before), reason


async def test_what_was_shut_is_in_the_log_of_the_server(stage: Stage) -> None:
    await fetched(stage, "unlisted.example", "urllib", hosts=stage.hosts)
    lines = [line.text for line in await stage.client.server_logs("acme", "caller")]
    assert any(line.startswith(f"The way to unlisted.example:{stage.origin.port} was shut") for line in lines)


async def test_the_dry_run_reaches_the_hosts_too(stage: Stage) -> None:
    url = f"http://allowed.example:{stage.origin.port}/dry"
    code = CALLER.replace(b"print(", f"by_urllib({url!r})\nprint(".encode(), 1)
    result = await stage.client.build(build_spec(hosts=stage.hosts), code)
    assert result.tools == stage.result.tools
    assert stage.origin.heads[-1].startswith("GET /dry ")
    with pytest.raises(Unbuildable):
        await stage.client.build(build_spec(), code.replace(b"/dry", b"/other"))


# ---- logs ----------------------------------------------------------------------------------------------------


async def test_the_log_of_a_server_goes_on_over_its_instances(stage: Stage) -> None:
    for number in (1, 2):
        spec = stage.spec("logging", secrets={"TOKEN": f"secret-{number}"}, variables={"NUMBER": str(number)})
        await stage.client.ensure(spec)
        await stage.client.stop((await stage.client.instances())[0].instance)
    lines = await stage.client.server_logs("acme", "logging")
    assert [line.text for line in lines] == ["starts with ***"] * 2
    assert len({line.instance for line in lines}) == 2
    first, second = lines
    assert second.number > first.number
    assert await stage.client.server_logs("acme", "logging", after=first.number) == [second]
    assert await stage.client.server_logs("globex", "logging") == []


# ---- removing ------------------------------------------------------------------------------------------------


async def test_what_nobody_wants_is_removed_and_what_runs_or_is_named_stays(stage: Stage) -> None:
    others = [await stage.client.build(build_spec(), CALLER + b"\n# %d\n" % number) for number in (1, 2, 3)]
    digests = {each.digest for each in others} | {stage.result.digest}
    running, named, unwanted = (each.digest for each in others)
    await stage.client.ensure(msgspec.structs.replace(stage.spec("running"), digest=running))
    for digest in digests:
        for kind in ("records", "artifacts"):
            os.utime(stage.store / kind / digest, (1, 1))
    removed = await stage.client.keep([named, stage.result.digest])
    assert unwanted in removed
    assert not set(removed) & {running, named, stage.result.digest}
    with pytest.raises(Missing):
        await stage.client.ensure(msgspec.structs.replace(stage.spec("gone"), digest=unwanted))
    assert await stage.client.ensure(stage.spec("caller"))
    assert await stage.client.keep([]) == [named]  # the others run
