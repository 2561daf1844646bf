"""What holds for every engine, however it runs code. One suite, over each of them, and over the socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from servers.runner.client import RunnerClient
from servers.runner.engine import Engine, Limits, RunSpec
from servers.runner.errors import Died, Malformed, Missing, Unknown, Unready
from servers.runner.fake import FakeEngine
from tests.runners import ENVELOPE, Clock, call, fake_engine, local_engine, post, spec_of
from tests.sandboxes import make_artifact

pytestmark = pytest.mark.asyncio(loop_scope="module")
ENGINES = ["fake", "local", "socket"]


@dataclass
class Stage:
    """An engine, and specifications of servers on it: each has a name of its own."""

    engine: Engine
    artifact: Path
    fake: FakeEngine | None = None
    numbers: Any = field(default_factory=lambda: count(1))

    def spec(self, *entry: str, **changes: Any) -> RunSpec:
        return spec_of(self.artifact, *entry, **{"server": f"server-{next(self.numbers)}"} | changes)

    def handshaking(self) -> RunSpec:
        return self.spec("python3", "-I", "-S", "/app/shaker.py", era="handshake")

    def failing(self) -> RunSpec:
        spec = self.spec("python3", "-c", "import sys; sys.exit('no reason')")
        if self.fake:
            self.fake.failures[spec.server] = 100
        return spec


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def stage(request: pytest.FixtureRequest, workshop: Path) -> AsyncIterator[Stage]:
    folder = workshop / request.param
    artifact = make_artifact(folder / "artifact", "server.py", "shaker.py")
    async with AsyncExitStack() as stack:
        if request.param == "fake":
            fake = await stack.enter_async_context(fake_engine(folder, clock=Clock()))
            yield Stage(fake, artifact, fake)
            return
        local = await stack.enter_async_context(local_engine(folder))
        if request.param == "local":
            yield Stage(local, artifact)
            return
        client = RunnerClient(folder)
        stack.push_async_callback(client.close)
        yield Stage(client, artifact)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def empty(stage: Stage) -> AsyncIterator[None]:
    """Each test leaves an empty stage to the next."""
    yield
    for info in await stage.engine.instances():
        await stage.engine.stop(info.instance)


async def test_it_says_what_it_enforces(stage: Stage) -> None:
    found = await stage.engine.probe()
    assert found.is_safe
    assert found.missing == ()


async def test_an_endpoint_answers(stage: Stage) -> None:
    endpoint = await stage.engine.ensure(stage.spec())
    assert endpoint.era == "modern"
    reply = await call(endpoint, "echo", a=1)
    assert (reply.status, reply.body["id"]) == (200, 1)
    assert msgspec.json.decode(reply.text) == {"a": 1}


async def test_ids_come_back_as_they_were_sent(stage: Stage) -> None:
    endpoint = await stage.engine.ensure(stage.spec())
    for number in (7, "seven", 2**53):
        assert (await post(endpoint, "tools/list", {"_meta": ENVELOPE}, number=number)).body["id"] == number


async def test_any_number_of_callers_start_one_process(stage: Stage) -> None:
    spec = stage.spec()
    endpoints = await asyncio.gather(*(stage.engine.ensure(spec) for _ in range(50)))
    assert len({endpoint.instance for endpoint in endpoints}) == 1
    [info] = await stage.engine.instances()
    assert (info.state, info.starts, info.server) == ("ready", 1, spec.server)


async def test_another_version_or_another_secret_is_another_instance(stage: Stage) -> None:
    specs = [
        stage.spec(server="same"),
        stage.spec(server="same", digest="00000002"),
        stage.spec(server="same", secrets={"K": "v"}),
    ]
    keys = {(await stage.engine.ensure(spec)).instance for spec in specs}
    assert len(keys) == 3


async def test_instances_are_listed_by_tenant(stage: Stage) -> None:
    await stage.engine.ensure(stage.spec(tenant="acme"))
    await stage.engine.ensure(stage.spec(tenant="globex"))
    assert [info.tenant for info in await stage.engine.instances()] == ["acme", "globex"]
    assert [info.tenant for info in await stage.engine.instances("globex")] == ["globex"]
    assert await stage.engine.instances("initech") == []


async def test_what_is_stopped_is_forgotten(stage: Stage) -> None:
    endpoint = await stage.engine.ensure(stage.spec())
    await stage.engine.stop(endpoint.instance)
    await stage.engine.stop(endpoint.instance)
    assert await stage.engine.instances() == []
    assert (await call(endpoint, "echo")).status == 404
    with pytest.raises(Unknown):
        await stage.engine.logs(endpoint.instance)


async def test_draining_lets_calls_finish_and_takes_no_new_ones(stage: Stage) -> None:
    endpoint = await stage.engine.ensure(stage.spec())
    running = asyncio.create_task(call(endpoint, "sleep", seconds=0.6))
    await until(stage, lambda info: info.in_flight == 1)
    draining = asyncio.create_task(stage.engine.drain(endpoint.instance, 10))
    await until(stage, lambda info: info.state == "draining")
    refused = await call(endpoint, "echo")
    assert (refused.status, refused.body["error"]["code"], refused.headers["Retry-After"]) == (
        503,
        "unready",
        "1",
    )
    assert (await running).status == 200
    await draining
    assert await stage.engine.instances() == []


async def test_a_drain_has_an_end(stage: Stage) -> None:
    endpoint = await stage.engine.ensure(stage.spec())
    running = asyncio.create_task(call(endpoint, "sleep", seconds=15))
    await until(stage, lambda info: info.in_flight == 1)
    await stage.engine.drain(endpoint.instance, 0.1)
    reply = await running
    assert (reply.status, reply.body["error"]["code"]) == (502, "died")
    await stage.engine.drain(endpoint.instance, 0.1)  # nothing by that name any more


async def test_a_server_that_cannot_start_says_why_and_rests(stage: Stage) -> None:
    spec = stage.failing()
    with pytest.raises(Died):
        await stage.engine.ensure(spec)
    with pytest.raises(Unready) as told:
        await stage.engine.ensure(spec)
    assert 0 < told.value.data["retry_after"] < 1
    [info] = await stage.engine.instances()
    assert (info.state, info.crashes) == ("crashed", 1)
    assert info.reason


async def test_stopping_forgives_crashes(stage: Stage) -> None:
    spec = stage.failing()
    for _ in range(2):
        with pytest.raises(Died):
            await stage.engine.ensure(spec)
        [info] = await stage.engine.instances()
        await stage.engine.stop(info.instance)


async def test_logs_are_read_from_where_one_stopped(stage: Stage) -> None:
    endpoint = await stage.engine.ensure(stage.spec())
    lines = await stage.engine.logs(endpoint.instance)
    assert [line.number for line in lines] == [*range(1, len(lines) + 1)]
    assert len(lines) >= 1
    assert await stage.engine.logs(endpoint.instance, lines[-1].number) == []


async def test_the_lines_of_a_server_are_found_by_its_name_whatever_it_holds(stage: Stage) -> None:
    endpoint = await stage.engine.ensure(stage.spec(tenant="a/b", server="c d/é?"))
    async with asyncio.timeout(10):
        while not (lines := await stage.engine.server_logs("a/b", "c d/é?")):
            await asyncio.sleep(0.01)
    assert {line.instance for line in lines} == {endpoint.instance}
    assert await stage.engine.server_logs("a/b", "c d/é?", lines[-1].number) == []
    assert await stage.engine.server_logs("a", "b/c d/é?") == []


async def test_an_artifact_that_nobody_has_built_is_missing(stage: Stage) -> None:
    with pytest.raises(Missing):
        await stage.engine.ensure(RunSpec(tenant="acme", server="tools", digest="0" * 64))
    assert await stage.engine.keep([]) == []
    assert await stage.engine.missing(["0" * 64, "1" * 64]) == ["0" * 64, "1" * 64]
    with pytest.raises(Missing):
        await stage.engine.stand_in("0" * 64, "1" * 64)


async def test_each_session_has_a_process_of_its_own(stage: Stage) -> None:
    spec = stage.spec(mode="session", limits=Limits(sessions=2))
    first, second = await stage.engine.ensure(spec, "one"), await stage.engine.ensure(spec, "two")
    assert first.instance != second.instance
    assert (await stage.engine.ensure(spec, "one")).instance == first.instance
    assert sorted(info.session for info in await stage.engine.instances()) == ["one", "two"]


async def test_sessions_are_named_where_they_belong(stage: Stage) -> None:
    with pytest.raises(Malformed):
        await stage.engine.ensure(stage.spec(mode="session"))
    with pytest.raises(Malformed):
        await stage.engine.ensure(stage.spec(), "one")


async def test_housekeeping_leaves_alone_what_is_in_use(stage: Stage) -> None:
    endpoint = await stage.engine.ensure(stage.spec())
    await stage.engine.reconcile()
    assert (await call(endpoint, "echo", a=1)).status == 200


# ---- the endpoint ----------------------------------------------------------------------------------------


async def test_an_endpoint_wants_its_bearer(stage: Stage) -> None:
    endpoint = await stage.engine.ensure(stage.spec())
    reply = await post(endpoint, "tools/list", {"_meta": ENVELOPE}, bearer="another")
    assert (reply.status, reply.body["error"]["code"]) == (401, "unauthorized")


async def test_errors_of_the_modern_revision_have_its_http_status(stage: Stage) -> None:
    endpoint = await stage.engine.ensure(stage.spec())
    reply = await post(endpoint, "no/such", {"_meta": ENVELOPE})
    assert (reply.status, reply.body["error"]["code"], reply.body["id"]) == (404, -32601, 1)


async def test_a_body_that_is_no_message_is_refused(stage: Stage) -> None:
    endpoint = await stage.engine.ensure(stage.spec())
    for data in (
        b"",
        b"{",
        b"[]",
        b'{"method":1}',
        b'{"id":1}',
        b'{"id":1,"method":"m","params":' + b"[" * 100_000,
    ):
        reply = await post(endpoint, "", data=data)
        assert (reply.status, reply.body["error"]["code"]) == (400, "malformed")
    assert (await call(endpoint, "echo")).status == 200


async def test_a_handshake_is_answered_with_what_the_server_said_at_its_start(stage: Stage) -> None:
    endpoint = await stage.engine.ensure(stage.handshaking())
    assert endpoint.era == "handshake"
    told = await post(endpoint, "server/discover", {"_meta": ENVELOPE})
    assert (told.status, told.body) == (
        400,
        "This server speaks no revision without a handshake; send initialize.",
    )
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {"roots": {}},
        "clientInfo": {"name": "x", "version": "1"},
    }
    for number in (1, 2):  # each client shakes hands by itself; the server has done so once
        shaken = await post(endpoint, "initialize", params, number=number)
        assert shaken.status == 200
        assert shaken.body["result"]["protocolVersion"] in {"2025-06-18", "2025-11-25"}
        assert "Mcp-Session-Id" not in shaken.headers
    assert (await post(endpoint, "notifications/initialized", number=None)).status == 202
    assert (await post(endpoint, "ping")).body["result"] == {}
    unknown = await post(endpoint, "no/such")
    assert (unknown.status, unknown.body["error"]["code"]) == (200, -32601)


async def until(stage: Stage, condition: Any) -> None:
    async with asyncio.timeout(10):
        while not any(map(condition, await stage.engine.instances())):
            await asyncio.sleep(0.01)
