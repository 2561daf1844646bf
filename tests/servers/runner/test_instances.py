"""The life of instances, with time in a test's hands and no processes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from servers.runner import ended
from servers.runner.engine import MIB, Capabilities, InstanceInfo, Limits, RunSpec
from servers.runner.errors import (
    Broken,
    Busy,
    Died,
    NoRoom,
    OverShare,
    SessionEnded,
    TimedOut,
    Unready,
    Unsafe,
)
from servers.runner.fake import OFFER, FakeEngine
from servers.runner.instance import Rules
from servers.runner.instances import KEPT_STOPPED
from tests.runners import Clock, call, fake_engine, spec_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def engine(tmp_path: Path, clock: Clock) -> AsyncIterator[FakeEngine]:
    """With room for four servers of the usual size."""
    async with fake_engine(tmp_path, clock=clock, memory=4 * 128 * MIB, rules=Rules(per_tenant=4)) as engine:
        yield engine


LARGE = Limits(memory=768 * MIB)


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


async def test_programs_that_sleep_when_they_start_do_not_stop_the_starts_of_another_tenant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    async with fake_engine(tmp_path, rules=Rules(slot=60)) as engine:
        engine.sleepers = {f"sleeper{number}" for number in range(4)}
        asleep = [asyncio.create_task(engine.ensure(spec(name, tenant="evil"))) for name in engine.sleepers]
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert await engine.ensure(spec())
        for task in asleep:
            task.cancel()


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
    assert broken.value.data["reason"] == "told to fail"
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


async def test_half_of_the_memory_is_as_much_as_one_tenant_gets_and_others_still_start(
    engine: FakeEngine, clock: Clock
) -> None:
    """Two of the four of the usual size that there is room for."""
    busy = []
    for name in ("one", "two"):
        clock.pass_(1)
        busy.append(asyncio.create_task(call(await engine.ensure(spec(name)), "sleep", seconds=9)))
    while sum(info.in_flight for info in await engine.instances()) < 2:
        await asyncio.sleep(0.01)
    with pytest.raises(OverShare) as refused:
        await engine.ensure(spec("three"))
    assert refused.value.data["limit"] == "memory"
    for tenant in ("globex", "initech"):
        await engine.ensure(spec("tools", tenant=tenant))
    busy.pop().cancel()
    while sum(info.in_flight for info in await engine.instances()) > 1:
        await asyncio.sleep(0.01)
    # What it has no share for is made room for among its own, never among others.
    await engine.ensure(spec("three"))
    assert [info.state for info in await engine.instances("acme")] == ["ready", "stopped", "ready"]
    assert {info.state for name in ("globex", "initech") for info in await engine.instances(name)} == {
        "ready"
    }
    busy.pop().cancel()


async def test_a_tenant_may_have_one_server_that_is_larger_than_its_share(engine: FakeEngine) -> None:
    assert await engine.ensure(spec("large", limits=LARGE))
    running = asyncio.create_task(call(await engine.ensure(spec("large", limits=LARGE)), "sleep", seconds=9))
    while not (await only(engine)).in_flight:
        await asyncio.sleep(0.01)
    with pytest.raises(OverShare):
        await engine.ensure(spec("small"))
    running.cancel()


async def test_names_of_instances_tell_nothing_of_their_secrets(tmp_path: Path) -> None:
    """Two runners name the same differently, so whoever reads a name cannot try out what made it."""
    names = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        async with fake_engine(tmp_path / folder) as engine:
            endpoints = [await engine.ensure(spec(secrets={"PIN": pin})) for pin in ("1234", "1234", "4321")]
            names.append([endpoint.instance for endpoint in endpoints])
    (first, same, other), others = names
    assert first == same != other
    assert not {first, other} & set(others)


async def test_sessions_of_a_server_have_a_cap(engine: FakeEngine, clock: Clock) -> None:
    mine = spec(mode="session", limits=Limits(sessions=2, memory=16 * MIB))
    for name in ("one", "two", "three"):
        clock.pass_(1)
        await engine.ensure(mine, name)
    found = {info.session: info.state for info in await engine.instances()}
    assert found == {"one": "stopped", "two": "ready", "three": "ready"}


SESSIONS: Any = {"mode": "session", "limits": Limits(sessions=2, memory=16 * MIB)}


async def evicted(engine: FakeEngine, clock: Clock) -> str:
    await engine.ensure(spec(**SESSIONS), "two", OPENED)
    clock.pass_(1)
    await engine.ensure(spec(**SESSIONS), "three", OPENED)
    return "another server needed its room"


async def crashed(engine: FakeEngine, clock: Clock) -> str:
    engine.servers["tools"].kill("signal 11")
    while (await engine.instances())[0].state != "crashed":
        await asyncio.sleep(0)
    clock.pass_(5)
    return "signal 11"


async def idle(engine: FakeEngine, clock: Clock) -> str:
    clock.pass_(601)
    await engine.reconcile()
    return "it was idle"


async def stopped(engine: FakeEngine, clock: Clock) -> str:
    [info] = await engine.instances()
    await engine.stop(info.instance)
    return "it was stopped"


async def replaced(engine: FakeEngine, clock: Clock) -> str:
    with pytest.raises(SessionEnded):
        await engine.ensure(spec(**SESSIONS, digest="00000002"), "one", OPENED)
    while await engine.instances():
        await asyncio.sleep(0)
    return "another version has taken its place"


# After every runner of these tests was started, however long the tests before them take.
OPENED = int(time.time()) + 24 * 3600
ENDS = [evicted, crashed, idle, stopped, replaced]


@pytest.mark.parametrize("end", ENDS)
async def test_a_session_whose_process_is_gone_never_gets_another(
    engine: FakeEngine, clock: Clock, end: Callable[[FakeEngine, Clock], Awaitable[str]]
) -> None:
    endpoint = await engine.ensure(spec(**SESSIONS), "one", OPENED)
    clock.pass_(1)
    why = await end(engine, clock)
    before = engine.starts
    for digest in ("00000001", "00000002"):
        for _ in range(2):
            with pytest.raises(SessionEnded) as refused:
                await engine.ensure(spec(**SESSIONS, digest=digest), "one", OPENED)
    assert refused.value.data["reason"] in (why, "another version has taken its place")
    assert (await call(endpoint, "echo")).status in (404, 410)
    assert engine.starts == before
    assert await engine.ensure(spec(**SESSIONS), "a new one", OPENED)
    lines = [line.text for line in await engine.server_logs("acme", "tools")]
    assert any(line.startswith(("The session has ended: ", "The process ended: ")) for line in lines)


@pytest.mark.parametrize("end", [evicted, crashed, idle])
async def test_a_caller_without_a_session_is_told_once_that_the_process_is_gone(
    engine: FakeEngine, clock: Clock, end: Callable[[FakeEngine, Clock], Awaitable[str]]
) -> None:
    await engine.ensure(spec(**SESSIONS), "one")
    clock.pass_(1)
    await end(engine, clock)
    with pytest.raises(SessionEnded):
        await engine.ensure(spec(**SESSIONS), "one")
    assert await engine.ensure(spec(**SESSIONS), "one")


async def test_a_caller_without_a_session_is_told_once_of_another_version(engine: FakeEngine) -> None:
    old, new = spec(**SESSIONS), spec(**SESSIONS, digest="00000002")
    await engine.ensure(old, "one")
    with pytest.raises(SessionEnded):
        await engine.ensure(new, "one")
    assert await engine.ensure(new, "one")
    while len(await engine.instances()) > 1:
        await asyncio.sleep(0)
    assert await engine.ensure(new, "one")


async def test_what_a_session_has_elsewhere_on_the_server_is_its_own(engine: FakeEngine) -> None:
    for place in ("live/main", "live/other", "draft/main"):
        await engine.ensure(spec(**SESSIONS, place=place), "one", OPENED)


async def test_a_start_that_fails_ends_no_session(engine: FakeEngine, clock: Clock) -> None:
    engine.failures["tools"] = 1
    with pytest.raises(Died):
        await engine.ensure(spec(**SESSIONS), "one", OPENED)
    clock.pass_(1)
    assert await engine.ensure(spec(**SESSIONS), "one", OPENED)


async def test_sessions_that_are_older_than_the_runner_have_ended(engine: FakeEngine) -> None:
    with pytest.raises(SessionEnded):
        await engine.ensure(spec(**SESSIONS), "one", int(time.time()) - 3600)
    assert await engine.ensure(spec(**SESSIONS), "one")


def test_ended_sessions_that_are_forgotten_one_by_one_are_known_by_their_age(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ended, "KEPT", 2)
    known = ended.Ended(before=100)
    for number in range(3):
        known.note(("acme", "tools", "", str(number)), 200 + number, "it was idle")
    for number in range(3):
        with pytest.raises(SessionEnded):
            known.check(("acme", "tools", "", str(number)), 200 + number)
    known.check(("acme", "tools", "", "young"), 201)


def test_a_tenant_with_many_ended_sessions_ends_none_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended, "KEPT", 3)
    known = ended.Ended(before=100)
    known.note(("globex", "tools", "", "old"), 150, "it was idle")
    for number in range(9):
        known.note(("acme", "tools", "", str(number)), 200 + number, "it was idle")
    known.check(("globex", "tools", "", "alive"), 150)
    with pytest.raises(SessionEnded, match="it was idle"):
        known.check(("globex", "tools", "", "old"), 150)
    with pytest.raises(SessionEnded):
        known.check(("acme", "tools", "", "0"), 200)


def test_tenants_whose_sessions_were_forgotten_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended, "KEPT", 2)
    known = ended.Ended(before=100)
    for number in range(9):
        known.note((f"tenant {number}", "tools", "", "one"), 200 + number, "it was idle")
    assert len(known._before) <= 2
    assert len(known._known) <= 2
    for number in range(9):
        with pytest.raises(SessionEnded):
            known.check((f"tenant {number}", "tools", "", "one"), 200 + number)


async def test_a_server_that_gives_late_answers_while_it_is_checked_is_not_killed(
    engine: FakeEngine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.ensure(spec())
    [instance] = engine._instances._known.values()
    server: Any = instance.connection
    checked: list[float] = []

    async def check(*, seconds: float) -> None:
        """It takes what came before first, and has just answered some of that."""
        checked.append(seconds)
        server.unanswered_since = clock()
        raise TimedOut("not yet")

    server.check, server.unanswered_since = check, clock()
    clock.pass_(1_000)
    await engine._instances._check(instance)
    assert checked
    assert not server.gone.done()
    await engine._instances._check(instance)  # and answers no more
    assert server.gone.done()


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


# ---- spares ----------------------------------------------------------------------------------------------


def built(engine: FakeEngine, server: str, version: int = 1, **changes: Any) -> RunSpec:
    """As `spec`, but of an artifact that the runner has."""
    digest = f"{version:064d}"
    engine.artifacts[digest] = OFFER
    given = {"tenant": server, "limits": Limits(memory=16 * MIB, idle=600)} | changes
    return RunSpec(server=server, digest=digest, **given)


async def settled(engine: FakeEngine, condition: Any) -> None:
    """Evictions and what follows them happen in tasks of their own."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def evicted(engine: FakeEngine, clock: Clock, *names: str) -> None:
    """Start them, each used a second later than the one before, and let them all be evicted."""
    for name in names:
        clock.pass_(1)
        await engine.ensure(built(engine, name))
    clock.pass_(600)
    await engine.reconcile()
    spares = engine._instances._spares
    await settled(engine, lambda: len(spares) == min(len(names), 4))


async def test_what_was_evicted_is_woken_from_a_process_that_waits(engine: FakeEngine, clock: Clock) -> None:
    await evicted(engine, clock, "a")
    assert (engine.prepared, engine.starts) == (2, 1)
    await engine.ensure(built(engine, "a"))
    assert (engine.prepared, engine.starts, engine.dropped) == (2, 2, 0)


async def test_another_version_or_tenant_gets_none_of_it(engine: FakeEngine, clock: Clock) -> None:
    await evicted(engine, clock, "a")
    await engine.ensure(built(engine, "a", version=2))
    await engine.ensure(built(engine, "a", tenant="b"))
    await engine.ensure(built(engine, "a", secrets={"TOKEN": "another"}))
    assert (engine.prepared, engine.starts) == (5, 4)


async def test_only_a_handful_waits_and_the_latest_used_do(engine: FakeEngine, clock: Clock) -> None:
    await evicted(engine, clock, *"abcdef")
    waiting = {spare.spec.server for spare in engine._instances._spares._held.values()}
    assert waiting == set("cdef")
    assert (engine.prepared, engine.dropped) == (10, 0)
    await engine.ensure(built(engine, "a"))
    clock.pass_(600)
    await engine.reconcile()
    await settled(engine, lambda: engine.dropped == 1)
    waiting = {spare.spec.server for spare in engine._instances._spares._held.values()}
    assert waiting == set("adef")


async def test_a_version_that_was_not_used_for_an_hour_waits_no_longer(
    engine: FakeEngine, clock: Clock
) -> None:
    await evicted(engine, clock, "a")
    clock.pass_(3_000)
    await engine.reconcile()
    await settled(engine, lambda: engine.dropped == 1)
    await engine.ensure(built(engine, "b", limits=Limits(idle=7_200)))
    clock.pass_(7_200)
    await engine.reconcile()
    assert len(engine._instances._spares) == 0


async def test_what_waits_makes_room_before_anything_that_runs(engine: FakeEngine, clock: Clock) -> None:
    await evicted(engine, clock, "a", "b")
    for name in "cde":
        await engine.ensure(spec(name, tenant=name))
    assert engine.dropped == 0
    await engine.ensure(spec("f", tenant="f", limits=Limits(memory=240 * MIB)))
    await settled(engine, lambda: engine.dropped == 1)
    found = await states(engine)
    assert [found[name] for name in "cdef"] == ["ready"] * 4


async def test_there_is_no_room_for_what_waits_where_servers_need_it(
    engine: FakeEngine, clock: Clock
) -> None:
    for name in "abcd":
        clock.pass_(1)
        await engine.ensure(built(engine, name, limits=Limits(idle=5 if name == "a" else 600)))
    clock.pass_(5)
    await engine.reconcile()
    await engine.ensure(spec("e", tenant="e"))
    await engine.reconcile()
    assert set((await states(engine)).values()) == {"stopped", "ready"}
    assert len(engine._instances._spares) == 0


async def test_a_process_that_dies_while_it_waits_is_replaced_by_a_new_one(
    engine: FakeEngine, clock: Clock
) -> None:
    await evicted(engine, clock, "a")
    [spare] = engine._instances._spares._held.values()
    await spare.process.drop()
    await engine.ensure(built(engine, "a"))
    assert (engine.prepared, engine.starts) == (3, 2)


async def test_stopping_a_server_ends_what_waits_for_it(engine: FakeEngine, clock: Clock) -> None:
    await evicted(engine, clock, "a", "b")
    await engine.stop((await engine.instances())[0].instance)
    assert engine.dropped == 1
    await engine.close(0)
    assert engine.dropped == 2


async def test_the_next_session_is_served_by_a_process_that_waits(engine: FakeEngine) -> None:
    mine = built(engine, "a", mode="session")
    spares = engine._instances._spares
    first = await engine.ensure(mine, "one")
    await settled(engine, lambda: len(spares) == 1)
    second = await engine.ensure(mine, "two")
    assert engine.starts == 2
    await settled(engine, lambda: len(spares) == 1)
    assert (engine.prepared, engine.dropped) == (3, 0)
    lines = await engine.server_logs("a", "a")
    assert [line.instance for line in lines] == [first.instance, second.instance]
    assert [line.text for line in await engine.logs(second.instance)] == ["a runs"]
    await engine.stop(first.instance)
    assert engine.dropped == 0
    await engine.stop(second.instance)
    assert engine.dropped == 1


async def test_sessions_with_other_secrets_have_other_processes(engine: FakeEngine) -> None:
    spares = engine._instances._spares
    await engine.ensure(built(engine, "a", mode="session"), "one")
    await settled(engine, lambda: len(spares) == 1)
    await engine.ensure(built(engine, "a", mode="session", secrets={"TOKEN": "another"}), "two")
    await settled(engine, lambda: len(spares) == 2)
    assert (engine.prepared, engine.starts) == (4, 2)


async def test_what_was_prepared_elsewhere_would_run_at_once_and_is_not_waited_with(
    engine: FakeEngine, clock: Clock
) -> None:
    await engine.ensure(spec())
    clock.pass_(600)
    await engine.reconcile()
    await engine.reconcile()
    assert (engine.prepared, engine.starts) == (1, 1)


# ---- the end ---------------------------------------------------------------------------------------------


async def test_a_runner_that_stops_starts_nothing(engine: FakeEngine) -> None:
    endpoint = await engine.ensure(spec())
    await engine.close(0)
    with pytest.raises(Unready, match="stopping"):
        await engine.ensure(spec(digest="00000002"))
    assert (await call(endpoint, "echo")).status == 404
