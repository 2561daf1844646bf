"""A gateway that probes upstreams whose turn it is: what it asks them, and what it makes of what they say."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mooring.egress.session import session
from mooring.errors import Unavailable
from mooring.scope import system_scope
from servers import tasks
from servers.models import UpstreamProbe, UpstreamWatch
from servers.pipeline.database_thread import DatabaseThread
from servers.pipeline.parts import Runtimes
from servers.pipeline.watching import Watcher, judged
from servers.runner.engine import Capabilities, RunSpec
from servers.runner.errors import Refused
from servers.runner.fake import FakeEngine
from servers.runtimes.base import Health
from servers.runtimes.breaker import FAILURES_TO_OPEN, Breaker, Verdict
from servers.runtimes.http.probing import probe
from servers.runtimes.upstreams import Upstream, Upstreams
from servers.services.alerting import UNHEALTHY_AFTER
from servers.services.health import health_of
from tests.conftest import World
from tests.runners import Clock, fake_engine
from tests.servers.runtimes.remote.peers import Handler, Peer, handshake, modern, never, peer_running, stream
from tests.servers.services.test_watching import Place, manifest, tool

Json = dict[str, Any]


@pytest.fixture
def place(world: World) -> Place:
    return Place(world)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with peer_running(modern) as running:
        yield running


@asynccontextmanager
async def watching(*, runner: Path | None = None, **how: Any) -> AsyncIterator[tuple[Watcher, Runtimes]]:
    runtimes = Runtimes.over(Upstreams(session), runner=runner)
    watcher = Watcher(runtimes, **how)
    try:
        yield watcher, runtimes
    finally:
        await runtimes.close()
        await asyncio.to_thread(watcher.close)


async def in_thread(work: Callable[[], Any]) -> Any:
    def run() -> Any:
        from django.db import connections

        try:
            with system_scope():
                return work()
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


def alone(place: Place) -> None:
    """Due are this server's upstreams and no other test's."""
    UpstreamWatch.objects.exclude(server=place.id).update(due_at=datetime(2100, 1, 1, tzinfo=UTC))
    UpstreamWatch.objects.filter(server=place.id).update(due_at=datetime(2000, 1, 1, tzinfo=UTC))


def found(place: Place) -> list[tuple[str, str, str]]:
    watches = UpstreamWatch.objects.filter(server=place.id)
    return [(watch.kind, watch.state, watch.detail) for watch in watches]


# ---- a round ---------------------------------------------------------------------------------------------


async def test_what_is_due_is_probed_once_and_written_down(
    place: Place, peer: Peer, unused_tcp_port: int
) -> None:
    peer.answers("server/discover", 401)
    peer.answers("HEAD", 404)
    origin = peer.url.removesuffix("/mcp")
    made = manifest(
        tool("here", f"{origin}/do-not-call-me"),
        tool("gone", f"http://127.0.0.1:{unused_tcp_port}/"),
        upstreams={"peer": {"url": peer.url}},
    )
    await in_thread(lambda: place.publish(made))
    await in_thread(lambda: alone(place))
    async with watching() as (watcher, _):
        assert await watcher.round() == 3
        assert await watcher.round() == 0
    assert sorted(await in_thread(lambda: found(place))) == [
        ("http", "healthy", ""),
        ("http", "unhealthy", "It could not be reached."),
        ("remote", "healthy", "It is there and asks for credentials."),
    ]
    assert sorted((seen.said, seen.path) for seen in peer.received) == [
        ("HEAD", "/"),
        ("server/discover", "/mcp"),
    ]
    assert not any("Authorization" in seen.headers for seen in peer.received)
    codes = await in_thread(
        lambda: sorted(UpstreamProbe.objects.filter(watch__server=place.id).values_list("code", flat=True))
    )
    assert codes == ["", "upstream_unauthorized", "upstream_unreachable"]


async def test_one_without_its_secret_is_degraded_and_not_asked(place: Place, peer: Peer) -> None:
    upstream = {"url": peer.url, "headers": {"Authorization": "Bearer {secret:t}"}}
    await in_thread(lambda: place.publish(manifest(secrets={"t": {}}, upstreams={"peer": upstream})))
    await in_thread(lambda: alone(place))
    async with watching() as (watcher, _):
        await watcher.round()
    ((_, state, detail),) = await in_thread(lambda: found(place))
    assert state == "degraded"
    assert "needs the secret t" in detail
    assert peer.received == []


@pytest.mark.parametrize("serve", [modern, handshake(), stream])
async def test_probes_go_over_the_clients_that_calls_take(place: Place, peer: Peer, serve: Handler) -> None:
    peer.serve = serve
    await in_thread(lambda: place.publish(manifest(upstreams={"peer": {"url": peer.url}})))
    async with watching() as (watcher, runtimes):
        for _ in range(5):
            await in_thread(lambda: alone(place))
            await watcher.round()
        assert len(peer.connections) <= 2
        assert peer.opened <= 1
        assert len(runtimes.upstreams.health()) <= 1
    assert await in_thread(lambda: found(place)) == [("remote", "healthy", "")]


# ---- uploaded code ---------------------------------------------------------------------------------------


def code_spec(place: Place, **more: Any) -> RunSpec:
    about = {"digest": "0" * 64, "artifact": "/nowhere", "entry": ("x",)}
    return RunSpec(tenant=str(place.world.acme.id), server=str(place.id), **(about | more))


@asynccontextmanager
async def looking_at_code(
    place: Place,
) -> AsyncIterator[tuple[FakeEngine, Clock, Callable[[], Awaitable[Any]]]]:
    """The runner, its clock, and what gives how the code is after one more round."""
    await in_thread(lambda: place.publish_code("0" * 64))
    with tempfile.TemporaryDirectory(prefix="mooring-") as name:
        folder, clock = Path(name), Clock()
        async with (
            fake_engine(folder, clock=clock) as engine,
            watching(runner=folder) as (watcher, _),
        ):

            async def looked() -> Any:
                await in_thread(lambda: alone(place))
                await watcher.round()
                return await in_thread(lambda: UpstreamWatch.objects.get(server=place.id))

            yield engine, clock, looked


async def crashed(engine: FakeEngine, place: Place) -> None:
    engine.servers[str(place.id)].kill("it ended with 1")
    while (await engine.instances())[0].state == "ready":
        await asyncio.sleep(0)


async def test_code_that_sleeps_is_healthy_and_is_not_woken_nor_kept_awake(place: Place) -> None:
    async with looking_at_code(place) as (engine, clock, looked):
        watch = await looked()
        assert (watch.kind, watch.state) == ("code", "healthy")
        assert watch.detail == "It is asleep; the next call starts it."
        assert engine.prepared == 0
        await engine.ensure(code_spec(place))
        watch = await looked()
        assert (watch.state, watch.detail) == ("healthy", "")
        clock.pass_(599)
        await looked()
        clock.pass_(2)
        await engine.reconcile()
        watch = await looked()
        assert watch.state == "healthy"
        assert watch.detail == "It is asleep, since it was idle; the next call starts it."
        assert engine.starts == 1


async def test_code_that_crashes_is_degraded_then_unhealthy_with_its_last_lines(place: Place) -> None:
    async with looking_at_code(place) as (engine, clock, looked):
        spec = code_spec(place, secrets={"TOKEN": "hush-hush-12345"})
        resting = "It has crashed and rests before it is started again: it ended with 1."
        for _ in range(4):
            await engine.ensure(spec)
            await crashed(engine, place)
            watch = await looked()
            assert (watch.state, watch.detail, watch.log) == ("degraded", resting, "")
            clock.pass_(60)
        await engine.ensure(spec)
        engine.servers[spec.server]._log.note("the token is hush-hush-12345")
        await crashed(engine, place)
        watch = await looked()
        assert watch.state == "unhealthy"
        assert watch.detail == "It has crashed again and again. The last time it ended with 1."
        assert watch.log.splitlines()[-2:] == ["the token is ***", "The process ended: it ended with 1."]


async def test_one_crash_of_long_ago_is_no_matter_any_more(place: Place) -> None:
    async with looking_at_code(place) as (engine, clock, looked):
        await engine.ensure(code_spec(place))
        await crashed(engine, place)
        clock.pass_(301)
        assert (await looked()).state == "healthy"


async def test_code_that_does_not_come_up_is_unhealthy(place: Place) -> None:
    async with looking_at_code(place) as (engine, _, looked):
        engine.failures[str(place.id)] = 1
        with pytest.raises(Refused):
            await engine.ensure(code_spec(place))
        watch = await looked()
        assert (watch.state, watch.detail) == ("unhealthy", "It does not come up: told to fail.")
        assert "told to fail" in watch.log


async def test_another_version_and_a_process_that_was_put_aside_say_nothing(place: Place) -> None:
    async with looking_at_code(place) as (engine, clock, looked):
        engine.failures[str(place.id)] = 2
        for spec in (code_spec(place, digest="1" * 64), code_spec(place, variables={"OLD": "1"})):
            with pytest.raises(Refused):
                await engine.ensure(spec)
        clock.pass_(1)
        await engine.ensure(code_spec(place))
        assert (await looked()).state == "healthy"


async def test_without_a_runner_code_is_unknown_and_on_an_unsafe_machine_unhealthy(place: Place) -> None:
    async with looking_at_code(place) as (engine, _, looked):
        engine.capabilities = Capabilities(engine="fake", missing=("No control groups.",))
        watch = await looked()
        assert (watch.state, watch.detail) == ("unhealthy", "Its machine cannot hold uploaded code.")
    for runner, why in (
        (None, "Uploaded code is not run here."),
        (Path("/nowhere"), "The runner cannot be reached: No such file or directory."),
    ):
        async with watching(runner=runner) as (watcher, _):
            await in_thread(lambda: alone(place))
            await watcher.round()
        assert await in_thread(lambda: found(place)) == [("code", "unknown", why)]


# ---- a round that goes wrong -----------------------------------------------------------------------------


async def test_it_goes_on_whatever_goes_wrong(place: Place, peer: Peer) -> None:
    """An upstream that is hard to understand, then a database that is away, then all is well."""
    peer.answers("HEAD", 200)
    await in_thread(lambda: place.publish(manifest(tool("a", peer.url))))
    async with watching(pause=(0.01, 0.02)) as (watcher, _):
        database, watcher._database = watcher._database, _Away("away", seconds=1)
        running = asyncio.create_task(watcher.run())
        async with asyncio.timeout(20):
            await watcher._database.was_asked.wait()
            watcher._database.close()
            watcher._database = database
            await in_thread(lambda: alone(place))
            while await in_thread(lambda: found(place)) != [("http", "healthy", "")]:
                await asyncio.sleep(0.02)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


class _Away(DatabaseThread):
    def __init__(self, name: str, *, seconds: float) -> None:
        super().__init__(name, seconds=seconds)
        self.was_asked = asyncio.Event()

    async def ask(self, work: Callable[[], Any]) -> Any:
        self.was_asked.set()
        raise Unavailable("The database is away.", code="database_unavailable")


# ---- what is made of an answer ---------------------------------------------------------------------------


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    known = Upstreams(session)
    yield known
    await known.close()


def status(number: int) -> Callable[..., Awaitable[web.StreamResponse]]:
    async def answer(*_: Any) -> web.StreamResponse:
        return web.Response(status=number, headers={"Location": "http://127.0.0.1:1/"})

    return answer


async def rude(_peer: Peer, request: web.Request, _message: Json) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"SSH-2.0-OpenSSH_9.6\r\n")  # type: ignore[attr-defined]  # it is one for writing
    request.transport.close()
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (status(200), "healthy", ""),
        (status(302), "healthy", ""),
        (status(401), "healthy", ""),
        (status(404), "healthy", ""),
        (status(405), "healthy", ""),
        (status(501), "healthy", ""),
        (status(429), "degraded", "too many"),
        (status(500), "degraded", "status 500"),
        (status(502), "unhealthy", "status 502"),
        (status(503), "unhealthy", "status 503"),
        (status(504), "unhealthy", "status 504"),
        (never, "unhealthy", "did not answer within 0.2 s"),
        (rude, "unhealthy", "not valid HTTP"),
    ],
)
async def test_an_origin_that_answers_is_there_unless_it_says_that_it_is_not(
    peer: Peer, upstreams: Upstreams, answer: Handler, state: str, words: str
) -> None:
    peer.serve = answer
    health = await probe(upstreams.get("acme", peer.url.removesuffix("/mcp")), seconds=0.2)
    assert health.state == state
    assert words in health.detail
    assert health.data["milliseconds"] > 0


async def test_an_inner_address_is_not_reached_by_probes_either(upstreams: Upstreams) -> None:
    health = await probe(upstreams.get("acme", "http://169.254.169.254"), seconds=1)
    assert (health.state, health.detail) == ("unhealthy", "It could not be reached.")


async def test_one_that_is_slow_or_fails_its_calls_is_degraded(upstreams: Upstreams) -> None:
    upstream = upstreams.get("acme", "https://api.example")
    well = Health("healthy", "", {"milliseconds": 20.0})
    assert judged(well, upstream) is well
    assert (
        judged(Health("healthy", "", {"milliseconds": 2_340.0}), upstream).detail
        == "It took 2.3 s to answer."
    )
    async with upstream.visit() as visit:
        visit.verdict = Verdict.FAILED
    assert judged(well, upstream).state == "degraded"
    upstream.used_at -= 301
    assert judged(well, upstream).state == "healthy"


async def test_one_whose_calls_are_refused_is_unhealthy_until_one_of_them_works(upstreams: Upstreams) -> None:
    upstream, clock = upstreams.get("acme", "https://api.example"), Clock()
    upstream.breaker = Breaker(clock=clock)
    well = Health("healthy", "", {"milliseconds": 20.0})
    await failed(upstream, FAILURES_TO_OPEN)
    found = judged(well, upstream)
    assert (found.state, found.data["failure"]) == ("unhealthy", "upstream_unavailable")
    assert "left alone" in found.detail
    busy = Health("degraded", "It refuses requests because there are too many.", {})
    assert judged(busy, upstream).state == "unhealthy"
    clock.now += 60  # a call may try it again, and none has
    assert judged(well, upstream).state == "unhealthy"
    async with upstream.visit() as visit:
        visit.verdict = Verdict.SUCCEEDED
    assert judged(well, upstream).state == "healthy"
    await failed(upstream, FAILURES_TO_OPEN)
    upstream.used_at -= 301  # long ago: what a look finds says more
    assert judged(well, upstream).state == "healthy"


async def failed(upstream: Upstream, times: int) -> None:
    for _ in range(times):
        async with upstream.visit() as visit:
            visit.verdict = Verdict.FAILED


@pytest.mark.parametrize("outage", ["it answers with 503", "its calls fail"])
async def test_an_outage_of_an_http_api_is_told_and_counted(place: Place, peer: Peer, outage: str) -> None:
    origin = peer.url.removesuffix("/mcp")
    peer.answers("HEAD", 503 if outage == "it answers with 503" else 200)
    await in_thread(lambda: place.publish(manifest(tool("a", f"{origin}/a"))))
    async with watching() as (watcher, runtimes):
        upstream = runtimes.upstreams.get(str(place.world.acme.id), origin)
        if outage == "its calls fail":
            await failed(upstream, FAILURES_TO_OPEN)
        for _ in range(UNHEALTHY_AFTER):
            await in_thread(lambda: alone(place))
            await watcher.round()
    uptime, told, detail = await in_thread(lambda: told_of(place))
    assert uptime == {"24h": 0.0, "7d": 0.0, "30d": 0.0}
    (letter,) = told
    assert "does not answer" in letter.subject
    assert detail in letter.body


def told_of(place: Place) -> tuple[dict[str, float | None], list[Any], str]:
    """After beat has looked: the uptime of its one upstream, the letters on it, and how it is."""
    from django.core import mail

    tasks.tell_of_health()
    ours = [letter for letter in mail.outbox if place.world.alice.email in letter.to]
    (upstream,) = health_of(place.server).upstreams
    return upstream.uptime, ours, upstream.watch.detail
