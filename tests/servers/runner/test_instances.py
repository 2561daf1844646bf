"""The life of instances, with time in a test's hands and no processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from servers.runner.engine import MIB, Capabilities, InstanceInfo, Limits, RunSpec
from servers.runner.errors import Broken, Busy, Died, NoRoom, Unready, Unsafe
from servers.runner.fake import FakeEngine
from servers.runner.instances import KEPT_STOPPED, Rules
from tests.runners import Clock, call, fake_engine, spec_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def engine(tmp_path: Path, clock: Clock) -> AsyncIterator[FakeEngine]:
    """With room for four servers of the usual size."""
    async with fake_engine(tmp_path, clock=clock, memory=4 * 128 * MIB, rules=Rules(per_tenant=4)) as engine:
        yield engine


def spec(server: str = "tools", **changes: Any) -> RunSpec:
    return spec_of(Path("/nowhere"), server=server, **changes)


async def only(engine: FakeEngine) -> InstanceInfo:
    [info] = await engine.instances()
    return info


async def states(engine: FakeEngine) -> dict[str, str]:
    return {info.server: info.state for info in await engine.instances()}


async def test_fifty_first_calls_at_once_start_one_process(engine: FakeEngine) -> None:
    endpoints = await asyncio.gather(*(engine.ensure(spec()) for _ in range(50)))
    assert engine.starts == 1
    assert len({endpoint.url for endpoint in endpoints}) == 1


async def test_callers_who_lose_patience_do_not_stop_the_start(engine: FakeEngine) -> None:
    first, second = asyncio.create_task(engine.ensure(spec())), asyncio.create_task(engine.ensure(spec()))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).instance
    assert engine.starts == 1


async def test_a_server_that_starts_takes_no_more_callers_than_it_could_serve(engine: FakeEngine) -> None:
    limits = Limits(in_flight=2, queue=3)
    asked = [engine.ensure(spec(limits=limits)) for _ in range(8)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in results if isinstance(one, Exception)] == [Busy] * 3


async def test_a_crash_loop_rests_longer_each_time_and_then_breaks(engine: FakeEngine, clock: Clock) -> None:
    engine.failures["tools"] = 100
    rests = []
    for _ in range(4):
        with pytest.raises(Died):
            await engine.ensure(spec())
        with pytest.raises(Unready) as told:
            await engine.ensure(spec())
        rests.append(told.value.data["retry_after"])
        clock.pass_(rests[-1])
    for rest, nominal in zip(rests, (0.5, 1.0, 2.0, 4.0), strict=True):
        assert 0.8 * nominal <= rest <= 1.2 * nominal
    with pytest.raises(Died):
        await engine.ensure(spec())
    clock.pass_(100_000)
    with pytest.raises(Broken, match="told to fail") as broken:
        await engine.ensure(spec())
    assert "The process ended: told to fail." in broken.value.data["log"]
    assert engine.starts == 5
    assert (await only(engine)).state == "broken"


async def test_only_a_new_version_or_a_manual_stop_begins_anew(engine: FakeEngine, clock: Clock) -> None:
    engine.failures["tools"] = 5
    for _ in range(5):
        clock.pass_(60)
        with pytest.raises(Died):
            await engine.ensure(spec())
    with pytest.raises(Broken):
        await engine.ensure(spec())
    assert await engine.ensure(spec(digest="00000002"))
    broken = next(info for info in await engine.instances() if info.state == "broken")
    await engine.stop(broken.instance)
    assert await engine.ensure(spec())


async def test_crashes_of_long_ago_do_not_count(engine: FakeEngine, clock: Clock) -> None:
    engine.failures["tools"] = 100
    for _ in range(8):
        clock.pass_(200)
        with pytest.raises(Died):
            await engine.ensure(spec())
    assert (await only(engine)).crashes == 3


async def test_a_crash_between_calls_is_noticed_and_mended(engine: FakeEngine, clock: Clock) -> None:
    endpoint = await engine.ensure(spec())
    engine.servers["tools"].kill("a bug")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    reply = await call(endpoint, "echo")
    assert (reply.status, reply.body["error"]["code"]) == (503, "unready")
    assert "a bug" in reply.body["error"]["message"]
    assert reply.body["error"]["data"]["log"][-1] == "The process ended: a bug."
    clock.pass_(1)
    assert (await call(endpoint, "echo")).status == 200
    assert engine.starts == 2


async def test_a_call_that_runs_when_the_process_dies_is_told(engine: FakeEngine) -> None:
    endpoint = await engine.ensure(spec())
    running = asyncio.create_task(call(endpoint, "sleep", seconds=10))
    while not engine.servers["tools"].in_flight:
        await asyncio.sleep(0.01)
    engine.servers["tools"].kill("a bug")
    reply = await running
    assert (reply.status, reply.body["error"]["code"]) == (502, "died")


async def test_what_is_idle_is_evicted_and_woken_by_the_next_call(engine: FakeEngine, clock: Clock) -> None:
    endpoint = await engine.ensure(spec(limits=Limits(idle=600)))
    clock.pass_(599)
    await engine.reconcile()
    assert (await only(engine)).state == "ready"
    clock.pass_(1)
    await engine.reconcile()
    assert ((await only(engine)).state, (await only(engine)).reason) == ("stopped", "it was idle")
    assert (await call(endpoint, "echo")).status == 200
    assert ((await only(engine)).state, engine.starts) == ("ready", 2)


async def test_what_answers_is_not_idle(engine: FakeEngine, clock: Clock) -> None:
    endpoint = await engine.ensure(spec(limits=Limits(idle=600)))
    running = asyncio.create_task(call(endpoint, "sleep", seconds=5))
    while not engine.servers["tools"].in_flight:
        await asyncio.sleep(0.01)
    clock.pass_(10_000)
    await engine.reconcile()
    assert (await only(engine)).state == "ready"
    running.cancel()


async def test_the_longest_idle_makes_room_and_only_the_idle_do(engine: FakeEngine, clock: Clock) -> None:
    endpoints = {}
    for name in ("a", "b", "c", "d"):
        clock.pass_(1)
        endpoints[name] = await engine.ensure(spec(name, tenant=name))
    clock.pass_(1)
    await call(endpoints["a"], "echo")
    await engine.ensure(spec("e", tenant="e"))
    assert await states(engine) == {"a": "ready", "b": "stopped", "c": "ready", "d": "ready", "e": "ready"}
    busy = [
        asyncio.create_task(call(await engine.ensure(spec(name, tenant=name)), "sleep", seconds=9))
        for name in "acde"
    ]
    while sum(info.in_flight for info in await engine.instances()) < 4:
        await asyncio.sleep(0.01)
    with pytest.raises(NoRoom):
        await engine.ensure(spec("b", tenant="b"))
    for task in busy:
        task.cancel()


async def test_a_tenant_has_no_more_than_its_share(engine: FakeEngine, clock: Clock) -> None:
    small = Limits(memory=16 * MIB)
    await engine.ensure(spec("others", tenant="globex", limits=small))
    for number in range(6):
        clock.pass_(1)
        await engine.ensure(spec(f"s{number}", limits=small))
    ready = [name for name, state in (await states(engine)).items() if state == "ready"]
    assert ready == ["others", "s2", "s3", "s4", "s5"]


async def test_sessions_of_a_server_have_a_cap(engine: FakeEngine, clock: Clock) -> None:
    mine = spec(mode="session", limits=Limits(sessions=2, memory=16 * MIB))
    for name in ("one", "two", "three"):
        clock.pass_(1)
        await engine.ensure(mine, name)
    found = {info.session: info.state for info in await engine.instances()}
    assert found == {"one": "stopped", "two": "ready", "three": "ready"}


async def test_a_new_version_takes_over_without_a_failed_call(engine: FakeEngine) -> None:
    """The caller switches as soon as the new one is ready; the old one finishes what it has."""
    old = await engine.ensure(spec())
    running = [asyncio.create_task(call(old, "sleep", seconds=0.3)) for _ in range(10)]
    while (await only(engine)).in_flight < 10:
        await asyncio.sleep(0.01)
    new = await engine.ensure(spec(digest="00000002"))
    draining = asyncio.create_task(engine.drain(old.instance))
    replies = await asyncio.gather(*running, *(call(new, "echo") for _ in range(10)))
    assert {reply.status for reply in replies} == {200}
    await draining
    assert [info.digest for info in await engine.instances()] == ["00000002"]


async def test_stopping_while_it_starts_tells_those_who_wait(engine: FakeEngine) -> None:
    waiting = asyncio.create_task(engine.ensure(spec()))
    await asyncio.sleep(0)
    await engine.stop((await only(engine)).instance)
    with pytest.raises(Unready):
        await waiting
    assert await engine.instances() == []


async def test_a_machine_that_cannot_hold_strangers_refuses_unless_told_otherwise(engine: FakeEngine) -> None:
    lacking = {"engine": "fake", "namespaces": True, "missing": ("No control groups.",)}
    engine.capabilities = Capabilities(**lacking)
    with pytest.raises(Unsafe) as told:
        await engine.ensure(spec())
    assert told.value.data["missing"] == ["No control groups."]
    engine.capabilities = Capabilities(**lacking, allows_unsafe=True)
    assert await engine.ensure(spec())


async def test_what_is_remembered_of_the_stopped_has_a_bound(engine: FakeEngine, clock: Clock) -> None:
    for number in range(KEPT_STOPPED + 20):
        await engine.ensure(spec(f"s{number}", tenant=f"t{number}"))
    clock.pass_(10_000)
    await engine.reconcile()
    assert len(await engine.instances()) == KEPT_STOPPED


async def test_a_runner_that_stops_starts_nothing(engine: FakeEngine) -> None:
    endpoint = await engine.ensure(spec())
    await engine.close(0)
    with pytest.raises(Unready, match="stopping"):
        await engine.ensure(spec(digest="00000002"))
    assert (await call(endpoint, "echo")).status == 404
