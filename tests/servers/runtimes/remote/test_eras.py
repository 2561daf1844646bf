"""Finding out what an upstream speaks, and finding out again when that changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from servers.protocol.errors import ProtocolError
from servers.runtimes.remote.asking import Era
from servers.runtimes.remote.client import RemoteClient
from servers.runtimes.remote.endpoint import Endpoint, Identity
from servers.runtimes.remote.failures import CallFailed
from tests.servers.runtimes.remote.peers import (
    ID,
    Peer,
    error,
    handshake,
    modern,
    never,
    result,
    stream,
    worked,
)

if TYPE_CHECKING:
    from servers.runtimes.upstreams import Upstreams
    from tests.servers.runtimes.remote.conftest import Caller

Json = dict[str, Any]


async def lenient(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
    """Works for whoever asks, in whatever words."""
    if message.get("method") == "initialize":
        about = {"protocolVersion": "2025-03-26", "capabilities": {}, "serverInfo": {}}
        return web.json_response(result(message, about))
    if "id" not in message:
        return web.Response(status=202)
    return web.json_response(result(message, worked(message)))


def rpc(code: int, data: Any = None, **more: Any) -> Json:
    body = {"code": code, "message": "no"} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "error": body} | more


@pytest.mark.parametrize(
    ("status", "body", "era"),
    [
        (400, rpc(-32020, id=ID), Era.MODERN),
        (400, rpc(-32020), Era.MODERN),
        (400, rpc(-32021, id=ID), Era.MODERN),
        (400, rpc(-32022, {"supported": ["2026-07-28"], "requested": "?"}, id=ID), Era.MODERN),
        (404, rpc(-32022, id=ID), Era.MODERN),
        (404, rpc(-32601, id=ID), Era.MODERN),
        (400, rpc(-32022, {"supported": ["2025-11-25"]}, id=ID), Era.HANDSHAKE),
        (400, rpc(-32601, id=ID), Era.HANDSHAKE),
        (404, None, Era.HANDSHAKE),
        (404, "Not Found", Era.HANDSHAKE),
        (404, "<html>", Era.HANDSHAKE),
        (400, None, Era.HANDSHAKE),
        (400, rpc(-32602, id=ID), Era.HANDSHAKE),
        (400, rpc(-32600, id="server-error"), Era.HANDSHAKE),
        (400, rpc(-32000, id=None), Era.HANDSHAKE),
        (405, None, Era.HANDSHAKE),
        (405, rpc(-32020, id=ID), Era.HANDSHAKE),
        (406, None, Era.HANDSHAKE),
        (415, "no", Era.HANDSHAKE),
        (422, {"detail": []}, Era.HANDSHAKE),
        (200, rpc(-32601, id=ID), Era.HANDSHAKE),
        (200, rpc(-32602, id=ID), Era.HANDSHAKE),
        (200, {"jsonrpc": "2.0", "id": ID, "result": {"supportedVersions": ["2025-06-18"]}}, Era.HANDSHAKE),
        (200, {"jsonrpc": "2.0", "id": ID, "result": {}}, Era.MODERN),
        (200, {"jsonrpc": "2.0", "id": ID, "result": {"supportedVersions": ["2026-07-28"]}}, Era.MODERN),
        (200, {"jsonrpc": "2.0", "id": "other", "result": {}}, Era.HANDSHAKE),
        (200, {"hello": "world"}, Era.HANDSHAKE),
        (200, "<html>", Era.HANDSHAKE),
        (202, None, Era.HANDSHAKE),
        (204, None, Era.HANDSHAKE),
    ],
)
async def test_what_is_said_to_discover_tells_the_era(
    call: Caller, peer: Peer, status: int, body: Any, era: Era
) -> None:
    peer.serve = lenient
    peer.answers("server/discover", status, body)
    outcome = await call("hello")
    assert outcome.content == [{"type": "text", "text": "hello"}]
    assert call.client.era is era
    await call("again")
    assert len(peer.said("server/discover")) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_credentials_that_are_refused_say_nothing_about_the_era(
    call: Caller, peer: Peer, status: int
) -> None:
    peer.answers("server/discover", status, rpc(-32601, id=ID))
    outcome = await call()
    assert outcome.failure == "upstream_unauthorized"
    assert call.client.era is None
    del peer.instead["server/discover"]
    assert not (await call()).is_error
    assert call.client.era is Era.MODERN


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (500, "upstream_failed"),
        (503, "upstream_failed"),
        (429, "upstream_status"),
        (302, "upstream_redirect"),
    ],
)
async def test_a_bad_day_of_the_upstream_is_not_remembered(
    call: Caller, peer: Peer, status: int, failure: str
) -> None:
    peer.answers("server/discover", status, rpc(-32020), Location="http://127.0.0.1:1/elsewhere")
    outcome = await call()
    assert (outcome.is_error, outcome.failure) == (True, failure)
    assert "127.0.0.1" not in outcome.content[0]["text"]
    assert [received.said for received in peer.received] == ["server/discover"]
    assert call.client.era is None


async def test_silence_is_not_remembered(call: Caller, peer: Peer) -> None:
    peer.instead["server/discover"] = never
    call.seconds = 0.05
    assert (await call()).failure == "upstream_timeout"
    assert call.client.era is None
    del peer.instead["server/discover"]
    call.seconds = 5
    assert not (await call()).is_error


async def test_a_handshake_that_fails_is_not_remembered(call: Caller, peer: Peer) -> None:
    peer.serve = handshake()
    peer.answers("server/discover", 404)
    peer.answers("initialize", 500)
    assert (await call()).failure == "upstream_failed"
    assert call.client.era is None
    del peer.instead["initialize"]
    assert not (await call()).is_error
    assert call.client.era is Era.HANDSHAKE


@pytest.mark.parametrize("status", [400, 404, 405])
async def test_an_upstream_that_knows_no_handshake_is_asked_for_a_stream(
    call: Caller, peer: Peer, status: int
) -> None:
    peer.serve = stream
    peer.answers("server/discover", 405)
    peer.answers("initialize", status)
    stopped = peer.instead.pop("initialize")

    async def refuse_here_only(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        return await (stopped if request.path == "/mcp" else stream)(peer, request, message)

    peer.instead["initialize"] = refuse_here_only
    assert (await call("hello")).content[0]["text"] == "hello"
    assert call.client.era is Era.STREAM
    assert [received.said for received in peer.received][:3] == ["server/discover", "initialize", "GET"]


@pytest.mark.parametrize("status", [401, 406, 415, 500])
async def test_other_refusals_of_the_handshake_are_no_reason_to_try_a_stream(
    call: Caller, peer: Peer, status: int
) -> None:
    peer.serve = stream
    peer.answers("server/discover", 400)
    peer.answers("initialize", status)
    assert (await call()).is_error
    assert not peer.said("GET")


async def test_an_address_where_nothing_speaks_mcp_says_so(call: Caller, peer: Peer) -> None:
    async def page(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        if request.method == "POST":
            return web.Response(status=405)
        return web.Response(text="<html>Welcome", content_type="text/html")

    peer.serve = page
    outcome = await call()
    assert outcome.failure == "upstream_invalid"
    assert outcome.content[0]["text"] == "The upstream does not speak MCP at this address."


async def test_a_revision_nobody_here_knows_is_named(call: Caller, peer: Peer) -> None:
    peer.answers("server/discover", 400, rpc(-32022, {"supported": ["2031-01-01"]}, id=ID))
    outcome = await call()
    assert outcome.failure == "upstream_invalid"
    assert "2031-01-01" in outcome.content[0]["text"]


async def test_the_transport_can_be_told(peer: Peer, upstreams: Upstreams) -> None:
    peer.serve = stream
    deadline = asyncio.get_running_loop().time() + 5
    told = RemoteClient(Endpoint(peer.url, transport="sse"), upstreams.get("acme", "sse"))
    assert (await told.about(deadline=deadline)).era is Era.STREAM
    assert not peer.said("server/discover")
    await told.close()
    peer.received.clear()
    never_streams = RemoteClient(Endpoint(peer.url, transport="http"), upstreams.get("acme", "http"))
    with pytest.raises(CallFailed):
        await never_streams.about(deadline=deadline)
    assert not peer.said("GET")


@pytest.mark.parametrize("serve", [modern, handshake()])
async def test_many_first_callers_ask_once(call: Caller, peer: Peer, serve: Any) -> None:
    peer.serve = serve
    outcomes = await asyncio.gather(*[call(str(number)) for number in range(50)])
    assert [outcome.content[0]["text"] for outcome in outcomes] == [str(number) for number in range(50)]
    assert len(peer.said("server/discover")) == 1
    assert len(peer.said("initialize")) == (serve is not modern)


async def test_the_search_is_made_with_the_credential_of_who_asks(call: Caller, peer: Peer) -> None:
    async def locked(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Bearer alice":
            return web.Response(status=401)
        return await modern(peer, request, message)

    peer.serve = locked
    assert (await call()).failure == "upstream_unauthorized"
    alice = Identity("alice", (("Authorization", "Bearer alice"),))
    assert not (await call(identity=alice)).is_error


async def test_a_first_caller_who_leaves_does_not_end_the_search(call: Caller, peer: Peer) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        asked.set()
        await go_on.wait()
        return await modern(peer, request, message)

    peer.instead["server/discover"] = slow
    first, second = asyncio.create_task(call("1")), asyncio.create_task(call("2"))
    await asked.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go_on.set()
    assert (await second).content[0]["text"] == "2"
    assert len(peer.said("server/discover")) == 1


async def test_when_everybody_leaves_the_search_ends(call: Caller, peer: Peer) -> None:
    asked = asyncio.Event()

    async def silent(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        asked.set()
        return await never(peer, request, message)

    peer.instead["server/discover"] = silent
    before = asyncio.all_tasks()
    callers = [asyncio.create_task(call()) for _ in range(5)]
    await asked.wait()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    while peer.running:
        await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() - before if "_find_era" in repr(task)]


# ---- when it changes -------------------------------------------------------------------------------------


async def test_an_upstream_that_became_modern_is_found_out_without_a_failed_call(
    call: Caller, peer: Peer
) -> None:
    peer.serve = handshake()
    await call("before")
    peer.serve = modern
    peer.instead.clear()
    assert (await call("after")).content[0]["text"] == "after"
    assert call.client.era is Era.MODERN


async def test_an_upstream_that_went_back_to_the_handshake_is_found_out_without_a_failed_call(
    call: Caller, peer: Peer
) -> None:
    found = []
    for serve in (modern, handshake(), stream):
        peer.serve = serve
        assert (await call("hello")).content[0]["text"] == "hello"
        found.append(call.client.era)
    assert found == [Era.MODERN, Era.HANDSHAKE, Era.STREAM]


async def test_a_refusal_that_could_mean_another_era_is_looked_into_once(call: Caller, peer: Peer) -> None:
    await call()
    peer.answers("tools/call", 404, "nothing here")
    outcome = await call()
    assert outcome.failure == "upstream_status"
    assert len(peer.said("server/discover")) == 2
    assert len(peer.said("tools/call")) == 2
    assert call.client.era is Era.MODERN


async def test_many_callers_whose_era_broke_look_into_it_once(call: Caller, peer: Peer) -> None:
    await call()
    peer.serve = handshake()
    outcomes = await asyncio.gather(*[call(str(number)) for number in range(20)])
    assert not any(outcome.is_error for outcome in outcomes)
    assert len(peer.said("initialize")) == 1
    # The calls that were already under way each see the change; they share what they find.
    assert len(peer.said("server/discover")) <= 3


async def test_unfit_arguments_are_not_taken_for_another_era(call: Caller, peer: Peer) -> None:

    async def refuse(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        return web.json_response(error(message, -32602, "text is missing"), status=400)

    await call()
    peer.instead["tools/call"] = refuse
    with pytest.raises(ProtocolError) as refused:
        await call()
    assert (refused.value.code, refused.value.message) == (-32602, "text is missing")
    assert len(peer.said("server/discover")) == 1
