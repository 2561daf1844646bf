"""Breakers, limits and the life of upstreams."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from mooring.egress.guard import Guard
from mooring.egress.session import session
from servers.runtimes.breaker import Breaker, Pass, Verdict
from servers.runtimes.upstreams import LEAST_WAITING_SECONDS, Unavailable, Upstream, Upstreams
from tests.servers.runtimes.conftest import never, text_of

if TYPE_CHECKING:
    from tests.servers.runtimes.conftest import Caller, Origin


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock=clock, spread=lambda low, high: (low + high) / 2)


def report(breaker: Breaker, *verdicts: Verdict) -> None:
    for verdict in verdicts:
        admitted = breaker.admit()
        assert admitted is not None
        breaker.settle(admitted, verdict)


# ---- the breaker -----------------------------------------------------------------------------------------


def test_five_failures_in_a_row_open_it(breaker: Breaker) -> None:
    report(breaker, *[Verdict.FAILED] * 4)
    assert breaker.state == "closed"
    report(breaker, Verdict.FAILED)
    assert breaker.state == "open"
    assert breaker.admit() is None


def test_a_success_starts_the_count_again(breaker: Breaker) -> None:
    report(breaker, *[Verdict.FAILED] * 4, Verdict.SUCCEEDED, *[Verdict.FAILED] * 4)
    assert breaker.state == "closed"


def test_callers_who_leave_cannot_open_it(breaker: Breaker) -> None:
    report(breaker, *[Verdict.UNKNOWN] * 50)
    assert breaker.state == "closed"
    report(breaker, *[Verdict.FAILED] * 4, Verdict.UNKNOWN, Verdict.FAILED)
    assert breaker.state == "open"


def test_exactly_one_probe_goes_through_after_half_a_minute(breaker: Breaker, clock: Clock) -> None:
    report(breaker, *[Verdict.FAILED] * 5)
    clock.now += 29.9
    assert breaker.admit() is None
    clock.now += 0.2
    assert breaker.state == "half-open"
    assert [breaker.admit() for _ in range(20)] == [Pass.PROBE] + [None] * 19


def test_a_probe_that_succeeds_closes_it(breaker: Breaker, clock: Clock) -> None:
    report(breaker, *[Verdict.FAILED] * 5)
    clock.now += 31
    report(breaker, Verdict.SUCCEEDED)
    assert breaker.state == "closed"
    report(breaker, *[Verdict.FAILED] * 4)
    assert breaker.state == "closed"


def test_a_probe_that_fails_opens_it_for_as_long_again(breaker: Breaker, clock: Clock) -> None:
    report(breaker, *[Verdict.FAILED] * 5)
    clock.now += 31
    report(breaker, Verdict.FAILED)
    assert breaker.state == "open"
    clock.now += 29
    assert breaker.admit() is None
    clock.now += 2
    assert breaker.admit() is Pass.PROBE


def test_a_probe_whose_caller_left_makes_room_for_the_next(breaker: Breaker, clock: Clock) -> None:
    report(breaker, *[Verdict.FAILED] * 5)
    clock.now += 31
    report(breaker, Verdict.UNKNOWN)
    assert breaker.admit() is Pass.PROBE


def test_calls_from_before_it_opened_have_no_say(breaker: Breaker, clock: Clock) -> None:
    early = [breaker.admit() for _ in range(3)]
    assert early == [Pass.NORMAL] * 3
    report(breaker, *[Verdict.FAILED] * 5)
    breaker.settle(Pass.NORMAL, Verdict.SUCCEEDED)
    assert breaker.state == "open"
    clock.now += 31
    breaker.settle(Pass.NORMAL, Verdict.FAILED)
    assert breaker.admit() is Pass.PROBE


def test_reopening_is_spread_over_time(clock: Clock) -> None:
    spans = set()
    for _ in range(20):
        breaker = Breaker(clock=clock)
        clock.now = 0
        report(breaker, *[Verdict.FAILED] * 5)
        clock.now = 23.9
        assert breaker.admit() is None
        while breaker.refuses():
            clock.now += 0.1
        assert clock.now < 36.2
        spans.add(round(clock.now, 1))
    assert len(spans) > 3


# ---- calls through it ------------------------------------------------------------------------------------


async def test_an_upstream_that_keeps_failing_is_left_alone(call: Caller, origin: Origin) -> None:
    origin.replies(b"", 500)
    for _ in range(5):
        assert (await call({})).failure == "upstream_failed"
    outcome = await call({})
    assert (outcome.is_error, outcome.failure) == (True, "upstream_unavailable")
    assert 24 <= outcome.retry_after <= 36
    assert len(origin.received) == 5
    [health] = call.upstreams.health().values()
    assert health.state == "unhealthy"
    call.tenant = "globex"
    assert (await call({})).failure == "upstream_failed"


async def test_errors_of_the_caller_do_not_count(call: Caller, origin: Origin) -> None:
    origin.replies(b"", 404)
    for _ in range(10):
        assert (await call({})).failure == "upstream_status"
    assert len(origin.received) == 10


async def test_too_large_answers_do_not_count(call: Caller, origin: Origin) -> None:
    origin.replies("x" * 1_000, Content_Type="text/plain")
    call.answer_bytes = 10
    for _ in range(10):
        assert (await call({})).failure == "answer_too_large"


async def test_timeouts_count(call: Caller, origin: Origin) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    origin.answer = never
    for _ in range(5):
        assert (await call({"timeout_seconds": 0.02})).failure == "upstream_timeout"
    assert (await call({})).failure == "upstream_unavailable"


async def test_callers_who_leave_do_not_count(call: Caller, origin: Origin) -> None:
    started = asyncio.Semaphore(0)

    async def never(request: web.Request) -> web.StreamResponse:
        started.release()
        await asyncio.Event().wait()
        raise AssertionError

    origin.answer = never
    for _ in range(8):
        task = asyncio.create_task(call({}))
        await started.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    origin.answer = None
    assert not (await call({})).is_error
    [health] = call.upstreams.health().values()
    assert (health.state, health.data["in_flight"]) == ("healthy", 0)


async def test_no_more_than_its_limit_of_calls_reach_an_upstream(call: Caller, origin: Origin) -> None:
    running = most = 0
    enough = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            enough.set()
        await enough.wait()
        running -= 1
        return web.json_response(True)

    origin.answer = answer
    known = Upstreams(lambda: session(Guard(allow=["127.0.0.0/8"])), concurrency=3)
    call.upstreams = known
    call.seconds = 100
    outcomes = await asyncio.gather(*[call({}) for _ in range(20)])
    assert not any(outcome.is_error for outcome in outcomes)
    assert most == 3
    await known.close()


async def test_waiting_for_room_ends_with_the_deadline_and_blames_nobody(
    call: Caller, origin: Origin
) -> None:
    free = asyncio.Event()
    started = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        started.set()
        await free.wait()
        return web.json_response(True)

    origin.answer = answer
    known = Upstreams(lambda: session(Guard(allow=["127.0.0.0/8"])), concurrency=1)
    call.upstreams = known
    first = asyncio.create_task(call({}))
    await started.wait()
    for _ in range(6):
        outcome = await call({"timeout_seconds": 0.01})
        assert (outcome.failure, outcome.retry_after) == ("upstream_busy", 1)
    free.set()
    assert not (await first).is_error
    assert not (await call({})).is_error
    await known.close()


async def test_a_call_waits_for_a_tenth_of_its_time_and_blames_nobody(call: Caller, origin: Origin) -> None:
    free, started = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        started.set()
        await free.wait()
        return web.json_response(True)

    origin.answer = answer
    call.upstreams = known = Upstreams(lambda: session(Guard(allow=["127.0.0.0/8"])), concurrency=1)
    first = asyncio.create_task(call({}))
    await started.wait()
    loop = asyncio.get_running_loop()
    for seconds, least in ((3.0, 0.3), (0.5, LEAST_WAITING_SECONDS)):
        began = loop.time()
        outcome = await call({"timeout_seconds": seconds})
        assert (outcome.failure, outcome.retry_after) == ("upstream_busy", 1)
        # An alarm rings a little late, and a busy machine later.
        assert least <= loop.time() - began < max(seconds, 2.5)
    assert len(origin.received) == 1
    free.set()
    assert not (await first).is_error
    [health] = known.health().values()
    assert (health.state, health.data["waiting"], health.data["in_flight"]) == ("healthy", 0, 0)
    await known.close()


async def test_beyond_its_queue_a_call_is_refused_at_once_and_told_when_to_come_again(
    call: Caller, origin: Origin
) -> None:
    free = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        await free.wait()
        return web.json_response(True)

    origin.answer = answer
    call.seconds = 100  # of which a tenth is for waiting
    call.upstreams = known = Upstreams(lambda: session(Guard(allow=["127.0.0.0/8"])), concurrency=2, queue=3)
    calls = [asyncio.create_task(call({})) for _ in range(9)]
    refused, under_way = await asyncio.wait(calls, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    assert {(task.result().failure, task.result().retry_after) for task in refused} == {("upstream_busy", 1)}
    [health] = known.health().values()
    assert (health.data["in_flight"], health.data["waiting"], len(refused)) == (2, 3, 4)
    free.set()
    assert not any(outcome.is_error for outcome in await asyncio.gather(*under_way))
    assert [one.state for one in known.health().values()] == ["healthy"]
    await known.close()


async def test_a_timeout_names_the_seconds_that_were_waited(call: Caller, origin: Origin) -> None:
    origin.answer = never
    outcome = await call({"timeout_seconds": 0.25})
    assert text_of(outcome) == "The upstream did not answer within 0.25 s. Try again later."


@pytest.mark.parametrize(
    ("definition", "told"),
    [
        ({"timeout_seconds": 7.9}, "wait=7"),
        ({"timeout_seconds": 60}, "wait=9"),  # the call itself has ten, of which a moment is gone
        ({"timeout_seconds": 0.9}, None),
        ({"constants": [{"in": "header", "name": "prefer", "value": "respond-async"}]}, "respond-async"),
        ({"parameters": [{"in": "header", "name": "Prefer", "argument": "how"}]}, "return=minimal"),
    ],
)
async def test_an_upstream_is_told_how_long_its_answer_is_waited_for(
    call: Caller, origin: Origin, definition: dict[str, Any], told: str | None
) -> None:
    call.seconds = 9.9
    await call.call({"method": "GET", "url": "{base_url}/x"} | definition, {"how": "return=minimal"})
    assert origin.last.headers.get("Prefer") == told


# ---- their life ------------------------------------------------------------------------------------------


async def test_an_upstream_outlives_a_publish(upstreams: Upstreams) -> None:
    first = upstreams.get("acme", "https://api.example")
    assert upstreams.get("acme", "https://api.example") is first
    assert upstreams.get("globex", "https://api.example") is not first
    assert upstreams.get("acme", "https://other.example") is not first


async def test_an_upstream_nobody_refers_to_is_forgotten(upstreams: Upstreams) -> None:
    upstreams.get("acme", "https://api.example")
    gc.collect()
    assert upstreams.health() == {}


async def test_idle_connections_are_closed_and_opened_again(upstreams: Upstreams, origin: Origin) -> None:
    upstream = upstreams.get("acme", origin.url)
    first = upstream.session
    async with upstream.visit():
        await upstreams.close_idle(0)
        assert not first.closed
    await upstreams.close_idle(300)
    assert not first.closed
    await upstreams.close_idle(0)
    assert first.closed
    async with upstream.session.get(origin.url) as response:
        assert response.status == 200


async def test_leaving_gives_back_the_room_whatever_happened(upstreams: Upstreams) -> None:
    upstream: Upstream = upstreams.get("acme", "https://api.example")
    for _ in range(50):
        with pytest.raises(ZeroDivisionError):
            async with upstream.visit():
                raise ZeroDivisionError
    assert upstream.is_idle
    assert upstream.health().state == "healthy"


async def test_an_open_breaker_is_not_waited_for(upstreams: Upstreams) -> None:
    upstream = upstreams.get("acme", "https://api.example")
    for _ in range(5):
        async with upstream.visit() as visit:
            visit.verdict = Verdict.FAILED
    with pytest.raises(Unavailable):
        await upstream.enter()
    assert upstream.is_idle
