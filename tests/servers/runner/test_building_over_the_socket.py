"""Builds as the platform asks for them: an upload goes in, its steps come out, and hanging up ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from servers.runner.client import RunnerClient
from servers.runner.engine import BuildEvent, BuildSpec, RunSpec
from servers.runner.errors import Busy, Malformed, Missing, Refused, TooLarge, Unbuildable, Unready
from servers.runner.fake import OFFER
from servers.runner.turns import AT_ONCE, WAITING, Turns
from tests.runners import FakeRunner, call, fake_runner, running_fake

__all__ = ["fake_runner"]
SPEC = BuildSpec(name="server.py", when=datetime(2026, 11, 1, tzinfo=UTC))


@pytest.fixture
async def client(fake_runner: FakeRunner) -> AsyncIterator[RunnerClient]:
    client = RunnerClient(fake_runner.folder)
    yield client
    await client.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_build_tells_its_steps_and_gives_what_was_found(
    fake_runner: FakeRunner, client: RunnerClient
) -> None:
    heard: list[BuildEvent] = []
    spec = msgspec.structs.replace(
        SPEC, variables={"REGION": "eu"}, secrets={"TOKEN": "s"}, hosts=("a.example",)
    )
    result = await client.build(spec, b"print('\n')\n", heard.append)
    assert [event.stage for event in heard] == [
        "read",
        "declare",
        "resolve",
        "install",
        "pack",
        "try",
        "done",
    ]
    assert heard[0].line == "read server.py"
    assert heard[0].at <= heard[-1].at
    assert fake_runner.engine.builds == [(spec, b"print('\n')\n")]
    assert (result.size, result.tools, len(result.digest)) == (11, OFFER.tools, 64)


async def test_what_was_built_runs_by_its_digest_alone(client: RunnerClient) -> None:
    result = await client.build(SPEC, b"x")
    endpoint = await client.ensure(RunSpec(tenant="acme", server="tools", digest=result.digest))
    assert (await call(endpoint, "echo", a=1)).text == '{"a":1}'


async def test_a_digest_that_was_never_built_is_missing_and_nothing_rests(client: RunnerClient) -> None:
    spec = RunSpec(tenant="acme", server="tools", digest="0" * 64)
    for _ in range(7):  # more often than a server may crash
        with pytest.raises(Missing) as told:
            await client.ensure(spec)
        assert told.value.code == "artifact_missing"


async def test_a_refused_upload_says_what_is_wrong_with_it(
    fake_runner: FakeRunner, client: RunnerClient
) -> None:
    fake_runner.engine.offer = Unbuildable("There is no server.", stage="declare", log=["one", "two"])
    with pytest.raises(Unbuildable, match="no server") as told:
        await client.build(SPEC, b"x")
    assert told.value.data == {"stage": "declare", "log": ["one", "two"]}
    assert fake_runner.engine.artifacts == {}


async def test_hanging_up_cancels_a_build_and_leaves_nothing(
    fake_runner: FakeRunner, client: RunnerClient
) -> None:
    engine = fake_runner.engine
    fake_runner.do(lambda engine: engine.build_gate.clear())
    building = asyncio.create_task(client.build(SPEC, b"x"))
    await until(lambda: engine.builds)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    fake_runner.do(lambda engine: engine.build_gate.set())
    await client.build(SPEC, b"y")
    assert len(engine.builds) == 2
    assert [len(each) for each in engine.artifacts] == [64]


async def test_two_builds_run_some_wait_and_the_rest_are_refused(
    fake_runner: FakeRunner, client: RunnerClient
) -> None:
    fake_runner.do(lambda engine: engine.build_gate.clear())
    lines: list[str] = []
    building = [
        asyncio.create_task(client.build(SPEC, b"%d" % number, lambda event: lines.append(event.line)))
        for number in range(AT_ONCE + WAITING)
    ]
    await until(lambda: sum(line.startswith("Waiting") for line in lines) == WAITING)
    assert len(fake_runner.engine.builds) == AT_ONCE
    with pytest.raises(Busy) as told:
        await client.build(SPEC, b"one too many")
    assert told.value.data == {"retry_after": 60.0}
    fake_runner.do(lambda engine: engine.build_gate.set())
    assert len({result.digest for result in await asyncio.gather(*building)}) == AT_ONCE + WAITING


async def test_a_turn_that_does_not_come_is_given_up() -> None:
    turns = Turns(at_once=1, seconds=0.01)
    async with turns.taken():
        with pytest.raises(Refused, match="Other builds"):
            async with turns.taken():
                pass
    async with turns.taken():
        pass


async def test_a_runner_that_stops_ends_its_builds(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = Path(tmp_path_factory.mktemp("r"))
    with running_fake(folder) as runner:
        client = RunnerClient(folder)
        runner.do(lambda engine: engine.build_gate.clear())
        building = asyncio.create_task(client.build(SPEC, b"x"))
        await until(lambda: runner.engine.builds)
        runner.end()
        with pytest.raises(Unready):
            await building
        await client.close()


async def test_a_body_that_is_no_build_is_refused(client: RunnerClient) -> None:
    nameless = msgspec.structs.replace(SPEC, name="x" * 300)
    with pytest.raises(Malformed):
        await client.build(nameless, b"x")
    with pytest.raises(TooLarge):
        await client.build(SPEC, bytes(37 * 2**20))
