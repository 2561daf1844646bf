"""Many callers for long: what is shared stays shared, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from mooring.egress.guard import Guard
from mooring.egress.session import session
from servers.runtimes.breaker import Breaker
from servers.runtimes.remote.client import RemoteClient
from servers.runtimes.remote.endpoint import Endpoint, Identity
from servers.runtimes.upstreams import Upstreams
from tests.servers.runtimes.remote.peers import Peer, handshake, modern, stream

if TYPE_CHECKING:
    from tests.servers.runtimes.remote.conftest import Caller

Json = dict[str, Any]
CALLS = 100_000 if os.environ.get("MOORING_SOAK") else 2_000
ERAS = {"modern": modern, "handshake": handshake(), "events": handshake(as_events=True), "stream": stream}
every_era = pytest.mark.parametrize("era", list(ERAS))


def of_twenty() -> Upstreams:
    guard = Guard(allow=["127.0.0.0/8"])
    return Upstreams(lambda: session(guard), concurrency=20, queue=500)


@every_era
async def test_five_hundred_callers_share_twenty_connections(peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    upstreams = of_twenty()
    client = RemoteClient(Endpoint(peer.url), upstreams.get("acme", peer.url), sessions=20)
    # Of which a tenth may be spent waiting.
    deadline = asyncio.get_running_loop().time() + 600 + CALLS / 20

    async def caller(number: int) -> None:
        for round_ in range(max(1, CALLS // 500)):
            outcome = await client.call_tool(
                "echo",
                {"text": f"{number}.{round_}"},
                deadline=deadline,
                limit=10_000,
                identity=Identity(str(number % 20)),
            )
            assert outcome.content == [{"type": "text", "text": f"{number}.{round_}"}]

    await asyncio.gather(*[caller(number) for number in range(500)])
    # Beside the calls' own: finding the era, and a stream for each session where that is how they work.
    assert len(peer.connections) <= 20 + 1 + (20 if era == "stream" else 0)
    assert peer.most_running <= 20 + 1 + (20 if era == "stream" else 0)
    assert client.sessions_opened <= (0 if era == "modern" else 20)
    assert client.upstream.is_idle
    await client.close()
    await upstreams.close()


class Moody:
    """Slow, forgetful or gone, now and then."""

    def __init__(self, serve: Any, chance: random.Random) -> None:
        self._serve = serve
        self._chance = chance

    async def __call__(self, peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        mood = self._chance.random()
        if mood < 0.2:
            await asyncio.sleep(self._chance.random() / 20)
        elif mood < 0.25:
            return web.Response(status=404)
        elif mood < 0.3 and request.transport is not None:
            request.transport.abort()
        answer: web.StreamResponse = await self._serve(peer, request, message)
        return answer


async def visit(client: RemoteClient, number: int, chance: random.Random) -> None:
    """One call, with little time and perhaps a caller who leaves."""
    loop = asyncio.get_running_loop()
    work = client.call_tool(
        "echo",
        {"text": "x"},
        deadline=loop.time() + chance.random() / 5,
        limit=10_000,
        identity=Identity(str(number % 8)),
        is_idempotent=bool(number % 2),
    )
    task = asyncio.create_task(work)
    if number % 3 == 0:
        loop.call_later(chance.random() / 50, task.cancel)
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None


@every_era
async def test_nothing_is_left_behind_by_callers_who_come_and_go(peer: Peer, era: str) -> None:
    chance = random.Random(7)
    peer.serve = ERAS[era]
    moody = Moody(peer.serve, chance)
    peer.instead = dict.fromkeys(("tools/call", "notifications/initialized"), moody)
    upstreams = of_twenty()
    before = asyncio.all_tasks()
    client = RemoteClient(Endpoint(peer.url), upstreams.get("acme", peer.url), sessions=5)
    for start in range(0, 600, 100):
        await asyncio.gather(*[visit(client, number, chance) for number in range(start, start + 100)])
        client.upstream.breaker = Breaker()  # it opens, rightly; here the calls matter
    peer.instead.clear()
    deadline = asyncio.get_running_loop().time() + 10
    assert not (await client.call_tool("echo", {"text": "x"}, deadline=deadline, limit=10_000)).is_error
    assert client.sessions_open <= 5
    await client.close()
    await upstreams.close()
    await until_gone(peer, before)
    await all_slots_are_free(client)


async def until_gone(peer: Peer, before: set[asyncio.Task[Any]]) -> None:
    """No task of ours and no open socket to the peer."""
    async with asyncio.timeout(10):
        while [task for task in asyncio.all_tasks() - before if "servers/runtimes" in repr(task)]:
            await asyncio.sleep(0.01)
        while not all(transport is None or transport.is_closing() for transport in peer.connections):
            await asyncio.sleep(0.01)


async def all_slots_are_free(client: RemoteClient) -> None:
    assert client.upstream.is_idle
    visits = [client.upstream.visit() for _ in range(20)]
    for each in visits:
        await asyncio.wait_for(each.__aenter__(), 1)
    for each in visits:
        await each.__aexit__(None, None, None)


async def test_a_session_lost_under_load_is_made_again_once(call: Caller, peer: Peer) -> None:
    peer.serve = handshake()
    for round_ in range(5):
        outcomes = await asyncio.gather(*[call(str(number)) for number in range(100)])
        assert not any(outcome.is_error for outcome in outcomes)
        assert peer.opened == round_ + 1
        peer.sessions.clear()
