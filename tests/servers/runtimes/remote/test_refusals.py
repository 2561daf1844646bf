"""Calls that an upstream refuses, fails or does not get: told, repeated, cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from servers.protocol.errors import ProtocolError
from servers.runtimes.remote.asking import Era
from servers.runtimes.remote.client import RemoteClient
from servers.runtimes.remote.endpoint import Endpoint
from servers.runtimes.remote.failures import Refused
from servers.runtimes.upstreams import Upstreams
from tests.servers.runtimes.remote.peers import Peer, error, event, never

if TYPE_CHECKING:
    from tests.servers.runtimes.remote.conftest import Caller
from tests.servers.runtimes.remote.eras import ERAS, Json, every_era, refuses, said

# ---- refusals --------------------------------------------------------------------------------------------


@every_era
async def test_an_unknown_tool_passes_on_as_what_it_is(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    if era == "stream":
        await call()

        async def refuse(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
            await peer.streams["stream-1"].write(event(error(message, -32602, "Unknown tool: echo")))
            return web.Response(status=202)

        peer.instead["tools/call"] = refuse
    else:
        refuses(peer, -32602, "Unknown tool: echo", status=400 if era == "modern" else 200)
    with pytest.raises(ProtocolError) as refused:
        await call()
    assert (refused.value.code, refused.value.message) == (-32602, "Unknown tool: echo")


@pytest.mark.parametrize(
    ("code", "data", "status", "failure", "words"),
    [
        (-32603, None, 200, "upstream_error", "The upstream refused: it went\nwrong"),
        (-32603, None, 500, "upstream_failed", "The upstream refused: it went\nwrong"),
        (-32601, None, 404, "upstream_error", "The upstream refused"),
        (429, {"retryAfter": 3}, 200, "upstream_error", "The upstream refused"),
        (-32021, {"requiredCapabilities": {"sampling": {}}}, 400, "missing_capability", "sampling"),
        (-32021, ["sampling"], 400, "missing_capability", "more than this one"),
        (-32020, None, 400, "definition_changed", "accept the change"),
        (
            -32042,
            {"elicitations": [{"url": "https://x.example/link"}, {"url": "javascript:alert(1)"}]},
            200,
            "input_required",
            "it went\nwrong https://x.example/link",
        ),
    ],
)
async def test_refusals_become_answers_a_model_can_read(
    call: Caller, peer: Peer, code: int, data: Any, status: int, failure: str, words: str
) -> None:
    await call()
    refuses(peer, code, "it\u202e went\n\x1b\x9bwrong", data, status)
    outcome = await call()
    assert outcome.failure == failure
    assert words in said(outcome)
    assert "javascript" not in said(outcome)
    assert call.client.era is Era.MODERN


async def test_long_refusals_are_cut(call: Caller, peer: Peer) -> None:
    refuses(peer, -32000, "x" * 10_000)
    assert len(said(await call())) < 2_100


@pytest.mark.parametrize(
    ("status", "failure", "words"),
    [
        (401, "upstream_unauthorized", "credentials"),
        (403, "upstream_unauthorized", "credentials"),
        (418, "upstream_status", "418 I'm a Teapot"),
        (429, "upstream_status", "429 Too Many Requests"),
        (500, "upstream_failed", "500 Internal Server Error"),
        (307, "upstream_redirect", "put the final address"),
        (599, "upstream_failed", "599"),
    ],
)
@every_era
async def test_statuses_are_told_and_redirects_not_followed(
    call: Caller, peer: Peer, era: str, status: int, failure: str, words: str
) -> None:
    peer.serve = ERAS[era]
    await call()
    peer.answers("tools/call", status, "kept inside", Location=peer.url + "/elsewhere")
    outcome = await call()
    assert outcome.failure == failure
    assert words in said(outcome)
    assert "127.0.0.1" not in said(outcome)
    assert "kept" not in said(outcome)
    assert not any(received.path.endswith("elsewhere") for received in peer.received)
    del peer.instead["tools/call"]
    assert not (await call()).is_error


async def test_an_upstream_that_is_not_there_says_no_address(upstreams: Upstreams) -> None:
    client = RemoteClient(Endpoint("http://127.0.0.1:9/mcp"), upstreams.get("acme", "x"))
    deadline = asyncio.get_running_loop().time() + 5
    outcome = await client.call_tool("echo", {}, deadline=deadline, limit=1_000)
    assert outcome.failure == "upstream_unreachable"
    assert "127" not in said(outcome)


@every_era
async def test_no_call_outlasts_its_deadline(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    await call()
    peer.instead["tools/call"] = never
    call.seconds = 0.05
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await call()).failure == "upstream_timeout"
    assert loop.time() - began < 2
    assert call.client.upstream.is_idle


# ---- repeating -------------------------------------------------------------------------------------------


async def hang_up(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@pytest.mark.parametrize("era", ["modern", "handshake"])
async def test_only_what_may_be_repeated_is_repeated(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    await call()
    peer.instead["tools/call"] = hang_up
    peer.received.clear()
    assert (await call()).failure == "upstream_unreachable"
    assert len(peer.said("tools/call")) == 1
    assert (await call(is_idempotent=True)).failure == "upstream_unreachable"
    assert len(peer.said("tools/call")) == 3


async def test_a_repeated_call_answers(call: Caller, peer: Peer) -> None:
    await call()

    async def hang_up_once(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        del peer.instead["tools/call"]
        return await hang_up(peer, request, message)

    peer.instead["tools/call"] = hang_up_once
    assert (await call("twice", is_idempotent=True)).content[0]["text"] == "twice"


async def test_repeating_has_a_budget(call: Caller, peer: Peer) -> None:
    await call()
    peer.instead["tools/call"] = hang_up
    call.client.upstream.breaker.admit()
    for _ in range(4):
        await call(is_idempotent=True)
    assert len(peer.said("tools/call")) <= 1 + 4 + 2


async def test_the_breaker_opens_for_failures_and_not_for_refusals(call: Caller, peer: Peer) -> None:
    refuses(peer, -32603)
    for _ in range(8):
        assert (await call()).failure == "upstream_error"
    peer.answers("tools/call", 401)
    for _ in range(8):
        assert (await call()).failure == "upstream_unauthorized"
    peer.answers("tools/call", 500)
    for _ in range(5):
        assert (await call()).failure == "upstream_failed"
    count = len(peer.received)
    assert (await call()).failure == "upstream_unavailable"
    assert len(peer.received) == count


# ---- leaving ---------------------------------------------------------------------------------------------


@every_era
async def test_a_caller_who_leaves_cancels_in_the_words_of_the_era(
    call: Caller, peer: Peer, era: str
) -> None:
    peer.serve = ERAS[era]
    await call()
    began, told = asyncio.Event(), asyncio.Event()
    left: list[bool] = []

    async def hang(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        if era == "stream":
            began.set()
            return web.Response(status=202)
        try:
            began.set()
            await peer.ending.wait()
        except asyncio.CancelledError:
            left.append(True)
            raise
        return web.Response()

    async def cancelled(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        told.set()
        return web.Response(status=202)

    peer.instead["tools/call"] = hang
    peer.instead["notifications/cancelled"] = cancelled
    task = asyncio.create_task(call("left"))
    await began.wait()
    asked = peer.said("tools/call")[-1].message["id"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if era == "modern":
        while not left:
            await asyncio.sleep(0)
        assert not told.is_set()
    else:
        await asyncio.wait_for(told.wait(), 5)
        [sent] = peer.said("notifications/cancelled")
        assert sent.message["params"]["requestId"] == asked
        assert sent.headers.get("Mcp-Session-Id") == peer.said("tools/call")[-1].headers.get("Mcp-Session-Id")
    assert call.client.upstream.is_idle
    assert call.client.upstream.health().state == "healthy"


async def test_a_refused_request_that_is_no_tool_is_raised(call: Caller, peer: Peer) -> None:
    refuses(peer, -32002, "none", {"uri": "a:b"})
    with pytest.raises(Refused) as refused:
        await call.client.read_resource("a:b", deadline=call.deadline, limit=1_000)
    assert refused.value.error.code == -32002


@every_era
async def test_a_timeout_names_the_seconds_that_were_waited(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    await call()
    peer.instead["tools/call"] = never
    call.seconds = 0.25
    outcome = await call()
    assert outcome.content[0]["text"] == "The upstream did not answer within 0.25 s. Try again later."
