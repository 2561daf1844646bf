"""What networks and upstreams do to us, times what we talk to: a clear answer in time, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import pytest
from aiohttp import web

from mooring.egress.guard import Guard
from mooring.egress.session import session
from servers.pipeline import caching
from servers.pipeline.caching import Answers, CachedTool, CachePolicy
from servers.runtimes.base import Outcome, ToolBinding, ToolCall
from servers.runtimes.breaker import FAILURES_TO_OPEN, OPEN_SECONDS, Breaker
from servers.runtimes.http.tool import compile_tool
from servers.runtimes.remote.bounds import OPENING_SECONDS
from servers.runtimes.remote.client import RemoteClient
from servers.runtimes.remote.endpoint import Endpoint, Transport
from servers.runtimes.remote.tool import RemoteTool
from servers.runtimes.upstreams import CONCURRENT_CALLS, QUEUED_CALLS, Upstream, Upstreams
from tests.faults import FAULTS, NONE, FaultProxy, fault_proxy
from tests.servers.runtimes.remote.peers import Peer, handshake, modern, peer_running, stream
from tests.servers.runtimes.test_upstreams import Clock

Json = dict[str, Any]
RUNTIMES = ("http", "modern", "handshake", "stream")
SECONDS = 0.4
# For a machine that is busy with other things; the deadline itself is what is promised.
SLACK = 2.0
# Of all together who disturb a neighbour.
CALLS_A_SECOND = 400
UNREACHABLE, INVALID, LATE = "upstream_unreachable", "upstream_invalid", "upstream_timeout"
TOLD = {
    "blackhole": LATE,
    "reset": UNREACHABLE,
    "half_close": UNREACHABLE,
    "endless": "answer_too_large",
    "bad_json": INVALID,
    "storm": "upstream_failed",
    "latency": "",
    "reset_within": INVALID,
    "half_close_within": INVALID,
    "slow": LATE,
    "wrong_id": INVALID,
}
# On one event stream for all, what cannot be told to be somebody's answer is passed over.
PASSED_OVER = {"bad_json", "wrong_id"}
HANGING = {"blackhole", "slow"}
BLAMELESS = {"latency", "endless"}  # an answer that is too large is an answer
# A damaged answer to the first question looks like one of an older server, which then refuses a handshake.
CLEAR = {*TOLD.values(), "upstream_unavailable", "upstream_session_lost", "upstream_error"}
every_runtime = pytest.mark.parametrize("runtime", RUNTIMES)


async def distant(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
    """As `api`, and as far away as a near one is: of the part of a millisecond that is ours a fifth is nothing."""
    await asyncio.sleep(0.01)
    return await api(peer, request, message)


async def api(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
    """An origin of http tools: gives back what it is asked with."""
    if request.query.get("status"):
        return web.Response(status=int(request.query["status"]))
    return web.json_response({"id": 1, "text": request.query.get("text", "")})


SERVED = {"http": api, "modern": modern, "handshake": handshake(), "stream": stream}
HTTP: Json = {
    "method": "GET",
    "parameters": [{"in": "query", "name": name, "argument": name} for name in ("text", "status")],
    "response": {"as": "json", "pick": "/text"},
}


@dataclass
class Place:
    """A tool whose upstream is behind a proxy."""

    proxy: FaultProxy
    peer: Peer
    tool: ToolBinding
    upstream: Upstream
    close: Callable[[], Any]

    async def call(self, text: str = "hello", *, seconds: float = SECONDS, **more: Any) -> Outcome:
        deadline = asyncio.get_running_loop().time() + seconds
        return await self.tool.call(ToolCall({"text": text, **more}, deadline, 50_000, principal="key:a"))


@asynccontextmanager
async def placed(runtime: str, upstreams: Upstreams, *, seed: int = 1) -> AsyncIterator[Place]:
    async with peer_running(SERVED[runtime]) as peer, fault_proxy(peer.url, seed=seed) as proxy:
        if runtime == "http":
            definition = HTTP | {"url": f"{proxy.url}/echo"}
            tool: Any = compile_tool(definition, variables={}, secrets={}, upstreams=upstreams, tenant="acme")
            yield Place(proxy, peer, tool, tool.upstream, _nothing)
            return
        url = f"{proxy.url}/mcp"
        transport: Transport = "sse" if runtime == "stream" else "auto"
        client = RemoteClient(Endpoint(url, transport=transport), upstreams.get("acme", url))
        yield Place(
            proxy, peer, RemoteTool(client, "echo", is_idempotent=True), client.upstream, client.close
        )


async def _nothing() -> None:
    """An http tool has nothing of its own to close."""


@pytest.fixture
async def place(runtime: str) -> AsyncIterator[Place]:
    async with left_clean(runtime) as made:
        yield made


@asynccontextmanager
async def left_clean(runtime: str, *, seed: int = 1) -> AsyncIterator[Place]:
    """Whatever a test does to it, nothing of it is left afterwards: no task, no connection, no slot."""
    before = asyncio.all_tasks()
    upstreams = Upstreams(lambda: session(Guard(allow=["127.0.0.0/8"])))
    async with placed(runtime, upstreams, seed=seed) as made:
        yield made
        made.proxy.faults = ()
        await made.close()
        assert made.upstream.is_idle
        await all_room_is_free(made.upstream)
        await upstreams.close()
        async with asyncio.timeout(5):
            while made.proxy.open or ours(before):
                await asyncio.sleep(0.01)


def ours(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Tasks that the product started since then and that are still there."""
    return [task for task in asyncio.all_tasks() - before if module_of(task).startswith("servers.")]


def module_of(task: asyncio.Task[Any]) -> str:
    frame = getattr(task.get_coro(), "cr_frame", None)
    return str(frame.f_globals["__name__"]) if frame is not None else ""


async def all_room_is_free(upstream: Upstream) -> None:
    upstream.breaker = Breaker()
    visits = [upstream.visit() for _ in range(CONCURRENT_CALLS)]
    for visit in visits:
        await asyncio.wait_for(visit.__aenter__(), 1)
    for visit in visits:
        await visit.__aexit__(None, None, None)


def told(runtime: str, fault: str) -> str:
    return LATE if runtime == "stream" and fault in PASSED_OVER else TOLD[fault]


def text_of(outcome: Outcome) -> str:
    """A text that an http tool took out of JSON is in quotes."""
    return str(outcome.content[0]["text"]).strip('"')


# ---- the matrix ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
@every_runtime
async def test_each_fault_has_a_clear_answer_in_time_and_the_next_call_works(
    place: Place, runtime: str, fault: str
) -> None:
    if (runtime, fault) == ("http", "wrong_id"):
        fault = "latency"  # an http answer has no id; the other way of being odd and yet right
    assert not (await place.call(seconds=5)).is_error
    place.proxy.faults = (fault,)
    # How much is too much for a stream takes its time.
    seconds = 5.0 if (runtime, fault) == ("stream", "endless") else SECONDS
    began = time.monotonic()
    outcomes = await asyncio.gather(*[place.call(seconds=seconds) for _ in range(4)])
    assert time.monotonic() - began < seconds + SLACK
    assert {outcome.failure for outcome in outcomes} == {told(runtime, fault)}
    for outcome in outcomes:
        assert outcome.is_error == (fault != "latency")
        assert text_of(outcome)
        for inner in ("127.0.0.1", str(place.proxy.port), "Errno", "aiohttp", "Traceback"):
            assert inner not in text_of(outcome)
    is_blamed = fault not in BLAMELESS and (runtime, fault) != (
        "http",
        "bad_json",
    )  # what it holds is the tool's affair
    assert place.upstream.breaker.failures == (4 if is_blamed else 0)
    place.proxy.faults = ()
    assert text_of(await place.call("again", seconds=5)) == "again"


@pytest.mark.parametrize("seed", range(40 if "MOORING_SOAK" in os.environ else 3))
@every_runtime
async def test_among_random_faults_each_caller_gets_its_own_answer_or_a_clear_failure(
    runtime: str, seed: int
) -> None:
    async with left_clean(runtime, seed=seed) as place:
        await place.call(seconds=5)
        # On a stream that all share, what is done to one answer is done to all that wait.
        place.proxy.faults, place.proxy.share = FAULTS, 0.05 if runtime == "stream" else 0.3
        good = 0
        for start in range(0, 120, 30):
            place.upstream.breaker = Breaker()  # it opens, rightly; here the calls matter
            began = time.monotonic()
            outcomes = await asyncio.gather(*[place.call(str(start + number)) for number in range(30)])
            assert time.monotonic() - began < SECONDS + SLACK
            for number, outcome in enumerate(outcomes, start):
                assert outcome.failure in CLEAR, outcome
                assert outcome.is_error or text_of(outcome) == str(number)
                good += not outcome.is_error
        # How many come in time is the machine's affair, and one fault may cost a stream all calls of a round.
        assert good or runtime == "stream"
        assert place.proxy.done[NONE] > 40
        place.proxy.faults, place.upstream.breaker = (), Breaker()
        assert text_of(await place.call("again", seconds=OPENING_SECONDS + SLACK)) == "again"


# ---- the neighbour ---------------------------------------------------------------------------------------


@every_runtime
async def test_an_upstream_that_is_silent_and_full_holds_up_no_other(place: Place) -> None:
    await place.call(seconds=5)
    place.proxy.faults = ("blackhole",)
    # They wait for a tenth of it.
    callers = [asyncio.create_task(place.call(seconds=600)) for _ in range(CONCURRENT_CALLS + QUEUED_CALLS)]
    async with asyncio.timeout(10):
        while place.upstream.waiting < QUEUED_CALLS:
            await asyncio.sleep(0.01)
    assert (await place.call(seconds=60)).failure == "upstream_busy"
    async with left_clean("http") as neighbour:
        outcomes = [await neighbour.call(str(number), seconds=SLACK) for number in range(50)]
        outcomes += await asyncio.gather(*[neighbour.call(str(n), seconds=SLACK) for n in range(50, 80)])
    assert [text_of(outcome) for outcome in outcomes] == [str(number) for number in range(80)]
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)


@pytest.mark.skipif(
    "MOORING_SOAK" not in os.environ, reason="It measures time; the test above is always run."
)
@pytest.mark.parametrize("fault", ["blackhole", "slow", "storm", "reset"])
@every_runtime
async def test_a_bad_upstream_does_not_slow_another(place: Place, fault: str) -> None:
    """Calls one after the other, with and without the fault in turns; the machine's moods hit both alike.

    As many as may run and wait call the bad one, and where it hangs do not give up.
    """
    upstreams = Upstreams(lambda: session(Guard(allow=["127.0.0.0/8"])))
    async with placed("http", upstreams) as neighbour:
        neighbour.peer.serve = distant
        await neighbour.call(seconds=5)
        alone, beside = [], []
        for _ in range(6):
            alone.append(await p95(neighbour))
            place.proxy.faults = (fault,)
            callers = await besieged(place, hangs=fault in HANGING)
            beside.append(await p95(neighbour))
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers)
            place.proxy.faults = ()
        assert median(beside) < median(alone) * 1.2, (alone, beside)
    await upstreams.close()


async def p95(place: Place) -> float:
    """In seconds."""
    took = []
    for _ in range(60):
        began = time.perf_counter()
        assert not (await place.call(seconds=5)).is_error
        took.append(time.perf_counter() - began)
    return sorted(took)[57]


async def besieged(place: Place, *, hangs: bool) -> list[asyncio.Task[None]]:
    number = CONCURRENT_CALLS + QUEUED_CALLS
    begins = [0.0 if hangs else one / CALLS_A_SECOND for one in range(number)]
    callers = [asyncio.create_task(calling(place, 600.0 if hangs else 0.1, after)) for after in begins]
    async with asyncio.timeout(10):
        while hangs and place.upstream.waiting < QUEUED_CALLS:
            await asyncio.sleep(0.01)
    return callers


async def calling(place: Place, seconds: float, after: float) -> None:
    """One of many, all of them together as often as patient programs would."""
    await asyncio.sleep(after)
    while True:
        await place.call(seconds=seconds)
        await asyncio.sleep((CONCURRENT_CALLS + QUEUED_CALLS) / CALLS_A_SECOND)


# ---- the breaker -----------------------------------------------------------------------------------------


@every_runtime
async def test_the_breaker_opens_after_five_failures_lets_one_probe_through_and_closes(place: Place) -> None:
    clock = Clock()
    await place.call(seconds=5)
    place.upstream.breaker = Breaker(clock=clock, spread=lambda low, high: (low + high) / 2)
    place.proxy.faults = ("storm",)
    for _ in range(FAILURES_TO_OPEN):
        assert (await place.call()).failure == "upstream_failed"
    asked = place.proxy.done["storm"]
    refused = await place.call()
    assert (refused.failure, refused.retry_after) == ("upstream_unavailable", OPEN_SECONDS)
    assert place.proxy.done["storm"] == asked
    clock.now += OPEN_SECONDS
    place.proxy.faults = ("blackhole",)
    outcomes = await asyncio.gather(*[place.call() for _ in range(10)])
    failures = sorted(outcome.failure for outcome in outcomes)
    assert failures == ["upstream_timeout"] + ["upstream_unavailable"] * 9
    assert place.proxy.done["blackhole"] == 1
    clock.now += OPEN_SECONDS
    place.proxy.faults = ()
    assert not (await place.call(seconds=5)).is_error
    assert place.upstream.breaker.state == "closed"


@every_runtime
async def test_callers_who_leave_and_ask_wrongly_do_not_open_it(place: Place, runtime: str) -> None:
    await place.call(seconds=5)
    place.proxy.faults = ("blackhole",)
    leaving = [asyncio.create_task(place.call(seconds=5)) for _ in range(8)]
    async with asyncio.timeout(5):
        while place.proxy.done["blackhole"] < 8:
            await asyncio.sleep(0.01)
    for caller in leaving:
        caller.cancel()
    await asyncio.wait(leaving)
    place.proxy.faults = ()
    if runtime == "http":
        for _ in range(8):
            assert (await place.call(seconds=5, status=400)).failure == "upstream_status"
    assert place.upstream.breaker.failures == 0
    assert not (await place.call(seconds=5)).is_error


# ---- remembered answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["blackhole", "reset", "storm", "bad_json", "half_close_within"])
@every_runtime
async def test_a_remembered_answer_stands_in_and_says_so(
    place: Place, runtime: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000_000.0]
    monkeypatch.setattr(caching.time, "time", lambda: now[0])
    place.tool = CachedTool(place.tool, CachePolicy(60, stale_seconds=600), Answers(), b"scope")
    assert (await place.call(seconds=5)).degraded == ""
    now[0] += 120
    place.proxy.faults = (fault,)
    outcome = await place.call()
    assert text_of(outcome) == "hello"
    assert outcome.degraded.startswith("This answer is 120 s old")
    now[0] += 600
    assert (await place.call()).failure == told(runtime, fault)


@pytest.mark.parametrize(
    ("status", "is_stale"), [(400, False), (404, False), (429, False), (500, True), (503, True)]
)
async def test_a_stale_answer_stands_in_for_statuses_from_500_on_only(
    status: int, is_stale: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstreams = Upstreams(lambda: session(Guard(allow=["127.0.0.0/8"])))
    async with placed("http", upstreams) as place:
        now = [1_000_000.0]
        monkeypatch.setattr(caching.time, "time", lambda: now[0])
        place.tool = CachedTool(place.tool, CachePolicy(60, stale_seconds=600), Answers(), b"scope")
        await place.call(seconds=5)
        now[0] += 120

        async def answer(*_: Any) -> web.StreamResponse:
            return web.Response(status=status)

        place.peer.serve = answer
        outcome = await place.call(seconds=5)
        assert bool(outcome.degraded) == is_stale
        assert outcome.is_error != is_stale
    await upstreams.close()
