"""Sessions of HTTP+SSE, whose answers all come on one stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from servers.runtimes.remote.endpoint import Identity
from tests.servers.runtimes.remote.peers import Peer, event, result, stream, text, until_ended

if TYPE_CHECKING:
    from tests.servers.runtimes.remote.conftest import Caller

Json = dict[str, Any]


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/messages", "//evil.example/x", "http://[", "https://user@127.0.0.1/"]
)
async def test_messages_are_posted_to_the_upstreams_own_host_only(
    call: Caller, peer: Peer, address: str
) -> None:
    async def elsewhere(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(event(address, event="endpoint"))
        await peer.ending.wait()
        return response

    peer.serve = stream
    peer.instead["GET"] = elsewhere
    outcome = await call()
    assert outcome.failure == "upstream_invalid"
    assert "own host" in outcome.content[0]["text"]


async def test_a_stream_that_ends_fails_those_who_wait_and_nobody_after(call: Caller, peer: Peer) -> None:
    peer.serve = stream
    await call()
    posted = asyncio.Event()

    async def accepted(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        posted.set()
        return web.Response(status=202)

    peer.instead["tools/call"] = accepted
    waiting = asyncio.create_task(call())
    await posted.wait()
    peer.hung_up["stream-1"].set()
    assert (await waiting).failure == "upstream_invalid"
    del peer.instead["tools/call"]
    assert not (await call()).is_error
    assert peer.opened == 2


async def test_a_forgotten_session_repeats_only_the_call_that_was_refused(call: Caller, peer: Peer) -> None:
    peer.serve = stream
    await call()
    posted = asyncio.Event()

    async def accepted(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        posted.set()
        return web.Response(status=202)

    peer.instead["tools/call"] = accepted
    under_way = asyncio.create_task(call("under way"))
    await posted.wait()
    del peer.instead["tools/call"]
    peer.sessions.clear()
    assert (await call("refused")).content[0]["text"] == "refused"
    assert (await under_way).failure == "upstream_invalid"
    sent = [one.message["params"]["arguments"]["text"] for one in peer.said("tools/call")]
    assert sent == ["hello", "under way", "refused", "refused"]


async def test_a_stream_that_always_ends_at_once_is_not_opened_for_ever(call: Caller, peer: Peer) -> None:
    async def brief(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        answer = await stream(peer, request, message)
        if message["method"] == "notifications/initialized":
            peer.hung_up[request.query["session_id"]].set()
        return answer

    peer.serve = stream
    peer.instead["notifications/initialized"] = brief
    assert (await call()).is_error
    assert peer.opened <= 6


async def test_a_stream_full_of_junk_is_given_up(call: Caller, peer: Peer) -> None:
    peer.serve = stream
    await call()

    async def junk(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        noise = event("junk") + event(result({"id": 77_777}, {})) + event({"jsonrpc": "2.0", "method": "x"})
        await peer.streams["stream-1"].write(noise * 200)
        return web.Response(status=202)

    peer.instead["tools/call"] = junk
    outcome = await call()
    assert outcome.failure == "upstream_invalid"
    assert "too many messages" in outcome.content[0]["text"]


async def test_requests_of_the_upstream_on_its_stream_are_refused(call: Caller, peer: Peer) -> None:
    peer.serve = stream
    await call()
    refused = asyncio.Event()

    async def ask(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        asked = {"jsonrpc": "2.0", "id": "u1", "method": "sampling/createMessage", "params": {}}
        await peer.streams["stream-1"].write(event(asked))
        await refused.wait()
        await peer.streams["stream-1"].write(event(result(message, text("done"))))
        return web.Response(status=202)

    async def answered(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        refused.set()
        return web.Response(status=202)

    peer.instead["tools/call"] = ask
    peer.instead["POST"] = answered
    assert (await call()).content[0]["text"] == "done"
    [reply] = peer.said("POST")
    assert (reply.message["id"], reply.message["error"]["code"]) == ("u1", -32601)


async def test_however_many_streams_are_given_up_at_once_all_are_closed(call: Caller, peer: Peer) -> None:
    """More than there are errands at a time, while the upstream itself goes on being used."""
    peer.serve = stream
    identities = [Identity(str(number)) for number in range(80)]
    await asyncio.gather(*[call(identity=identity) for identity in identities])
    assert len(peer.sessions) == 80
    await call.client.close_idle(0)
    assert not (await call()).is_error
    await until_ended(peer, 1)
