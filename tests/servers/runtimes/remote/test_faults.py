"""Upstreams that misbehave: every caller gets a clear answer in time, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from servers.runtimes.base import Outcome
from servers.runtimes.remote.client import RemoteClient
from servers.runtimes.remote.endpoint import Endpoint
from tests.servers.runtimes.remote.peers import (
    ID,
    Peer,
    error,
    event,
    handshake,
    modern,
    never,
    result,
    streamed,
    text,
)

if TYPE_CHECKING:
    from servers.runtimes.upstreams import Upstreams
    from tests.servers.runtimes.remote.conftest import Caller

Json = dict[str, Any]
NOTE = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}


def streams(peer: Peer, *chunks: Callable[[Json], bytes] | bytes, **headers: str) -> None:
    """Answer calls with an event stream of these chunks."""

    async def answer(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        made = [chunk if isinstance(chunk, bytes) else chunk(message) for chunk in chunks]
        return await streamed(request, *made, **headers)

    peer.instead["tools/call"] = answer


def final(message: Json) -> bytes:
    return event(result(message, text("final")))


def said(outcome: Outcome) -> str:
    return str(outcome.content[0]["text"])


# ---- event streams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        [],
        [b": welcome\n\n", event("", id="1")],
        [event(NOTE), event(NOTE)],
        [event("no json"), event("[]"), event("5"), event({})],
        [event(result({"id": 999_999}, text("of another")))],
        [event(result({"id": "1"}, text("of another")))],
        [event(error({"id": None}, -32000))],
        [event([NOTE, result({"id": 999_999}, {})])],
    ],
)
@pytest.mark.parametrize("serve", [modern, handshake()])
async def test_an_event_stream_is_read_to_its_final_answer(
    call: Caller, peer: Peer, serve: Any, before: list[bytes]
) -> None:
    peer.serve = serve
    streams(peer, *before, final, event("too late"))
    assert said(await call()) == "final"


async def test_a_batch_on_the_stream_may_hold_the_answer(call: Caller, peer: Peer) -> None:
    peer.serve = handshake("2025-03-26")
    streams(peer, lambda message: event([NOTE, result(message, text("in a batch"))]))
    assert said(await call()) == "in a batch"


async def test_connections_are_used_again_after_event_streams(call: Caller, peer: Peer) -> None:
    await call()
    streams(peer, event(NOTE), final)
    for _ in range(30):
        assert said(await call()) == "final"
    assert len(peer.connections) == 1


async def test_a_stream_that_never_ends_after_its_answer_is_cut(call: Caller, peer: Peer) -> None:
    left = asyncio.Event()

    async def lingers(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(final(message))
        try:
            await peer.ending.wait()
        finally:
            left.set()
        return response

    peer.instead["tools/call"] = lingers
    outcomes = await asyncio.gather(*[call() for _ in range(25)])
    assert {said(outcome) for outcome in outcomes} == {"final"}
    async with asyncio.timeout(5):
        await left.wait()
        while peer.running:
            await asyncio.sleep(0)


async def test_requests_of_a_handshake_upstream_are_refused_and_pings_answered(
    call: Caller, peer: Peer
) -> None:
    peer.serve = handshake()
    asked = {"jsonrpc": "2.0", "id": "u1", "method": "sampling/createMessage", "params": {}}
    ping = {"jsonrpc": "2.0", "id": 5, "method": "ping"}
    replied = asyncio.Event()

    async def ask(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(event(asked) + event(ping))
        await replied.wait()
        await response.write(final(message))
        return response

    async def take(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        if message["id"] == 5:
            replied.set()
        return web.Response(status=202 if message["id"] == 5 else 500)

    peer.instead |= {"tools/call": ask, "POST": take}
    assert said(await call()) == "final"
    replies = [sent for sent in peer.said("POST") if "method" not in sent.message]
    assert [(reply.message["id"], reply.message.get("result")) for reply in replies] == [
        ("u1", None),
        (5, {}),
    ]
    assert replies[0].message["error"]["code"] == -32601
    assert replies[0].headers["Mcp-Session-Id"] in peer.sessions


async def test_requests_of_a_modern_upstream_are_passed_over(call: Caller, peer: Peer) -> None:
    asked = {"jsonrpc": "2.0", "id": "u1", "method": "sampling/createMessage", "params": {}}
    streams(peer, event(asked), final)
    assert said(await call()) == "final"
    assert not peer.said("POST")


async def test_a_flood_of_requests_is_not_answered_without_end(call: Caller, peer: Peer) -> None:
    peer.serve = handshake()

    async def ask(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(200):
            await response.write(event({"jsonrpc": "2.0", "id": number, "method": "ping"}))
        while len(peer.said("POST")) < 20:
            await asyncio.sleep(0)
        await response.write(final(message))
        return response

    peer.instead["tools/call"] = ask
    assert said(await call()) == "final"
    assert len([sent for sent in peer.received if sent.body and "method" not in sent.message]) == 20


@pytest.mark.parametrize(
    ("chunk", "failure", "words"),
    [
        (event("junk"), "upstream_invalid", "100 messages that answer nothing"),
        (event(result({"id": 999_999}, {})), "upstream_invalid", "100 messages that answer nothing"),
        (event([{}] * 150), "upstream_invalid", "100 messages that answer nothing"),
        (event(NOTE) * 100, "upstream_invalid", "messages before its answer"),
        (b"data: " + b"x" * 90_000, "answer_too_large", "100,000 bytes"),
        (b"x" * 90_000, "answer_too_large", "100,000 bytes"),
        (b": ping\n\n" * 10_000, "answer_too_large", "100,000 bytes"),
        (event({"jsonrpc": "2.0", "method": "n", "params": "x" * 90_000}), "answer_too_large", "100,000"),
    ],
)
@pytest.mark.parametrize("serve", [modern, handshake()])
async def test_endless_streams_end(
    call: Caller, peer: Peer, serve: Any, chunk: bytes, failure: str, words: str
) -> None:
    peer.serve = serve

    async def endless(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while not peer.ending.is_set():
            await response.write(chunk)
            await asyncio.sleep(
                0
            )  # the client is of the same loop, and the system takes megabytes before it waits
        return response

    peer.instead["tools/call"] = endless
    call.seconds = 20
    outcome = await call()
    assert outcome.failure == failure
    assert words in said(outcome)
    async with asyncio.timeout(5):
        while peer.running:
            await asyncio.sleep(0)


@pytest.mark.parametrize("serve", [modern, handshake()])
async def test_a_stream_that_ends_without_an_answer_says_so(call: Caller, peer: Peer, serve: Any) -> None:
    peer.serve = serve
    streams(peer, event(NOTE), b"data: cut off")
    outcome = await call()
    assert (outcome.failure, said(outcome)) == (
        "upstream_invalid",
        "The upstream's answer broke off or could not be unpacked.",
    )


async def test_a_stream_that_was_hung_up_on_purpose_is_taken_up_again(call: Caller, peer: Peer) -> None:
    serve = handshake()
    asked: list[Json] = []

    async def hangs_up(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        asked.append(message)
        return await streamed(request, event("", id="s1:1", retry="1"))

    async def goes_on(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        if request.headers["Last-Event-ID"] == "s1:1":
            return await streamed(request, event(NOTE, id="s1:2"))
        return await streamed(request, final(asked[0]))

    peer.serve = serve
    peer.instead |= {"tools/call": hangs_up, "GET": goes_on}
    assert said(await call()) == "final"
    resumed = peer.said("GET")
    assert [sent.headers["Last-Event-ID"] for sent in resumed] == ["s1:1", "s1:2"]
    assert {sent.headers["Mcp-Session-Id"] for sent in resumed} == peer.sessions
    assert len(peer.said("tools/call")) == 1


async def test_taking_up_again_has_an_end(call: Caller, peer: Peer) -> None:
    peer.serve = handshake()
    streams(peer, event("", id="s1:1", retry="1"))

    async def hangs_up(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        return await streamed(request, event("", id="s1:1", retry="1"))

    peer.instead["GET"] = hangs_up
    assert (await call()).failure == "upstream_invalid"
    assert 0 < len(peer.said("GET")) <= 8


@pytest.mark.parametrize("status", [400, 404, 405, 500])
async def test_a_refusal_to_go_on_is_no_reason_to_do_it_all_again(
    call: Caller, peer: Peer, status: int
) -> None:
    peer.serve = handshake()
    await call()
    streams(peer, event("", id="s1:1", retry="1"))
    peer.answers("GET", status)
    assert (await call(is_idempotent=True)).failure == "upstream_invalid"
    assert len(peer.said("tools/call")) == 2
    assert peer.opened == 1


@pytest.mark.parametrize("serve", [modern, handshake("2025-06-18")])
async def test_only_the_revision_that_hangs_up_on_purpose_is_asked_again(
    call: Caller, peer: Peer, serve: Any
) -> None:
    peer.serve = serve
    streams(peer, event("", id="s1:1", retry="1"))
    assert (await call()).failure == "upstream_invalid"
    assert not peer.said("GET")


# ---- single answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"jsonrpc": "2.0", "id": "other", "result": text("of another")}, "not asked"),
        ({"jsonrpc": "2.0", "id": 10**6, "error": {"code": -1, "message": "of another"}}, "not asked"),
        ({"jsonrpc": "2.0", "id": ID}, "neither a result nor an error"),
        ({"jsonrpc": "2.0", "id": ID, "result": 5}, "not what MCP says"),
        ({"jsonrpc": "2.0", "id": ID, "error": "no"}, "neither|no JSON-RPC"),
        ("[]", "no JSON-RPC message"),
        ("{", "no JSON-RPC message"),
        ("", "no JSON-RPC message"),
        ("[" * 100_000, "no JSON-RPC message"),
        (b"\xff\xfe", "no JSON-RPC message"),
    ],
)
async def test_answers_that_are_none(call: Caller, peer: Peer, body: Any, words: str) -> None:
    await call()
    peer.answers(
        "tools/call", 200, body, **({} if isinstance(body, dict) else {"Content_Type": "application/json"})
    )
    call.limit = 1_000_000
    outcome = await call()
    assert outcome.failure == "upstream_invalid"
    assert re.search(words, said(outcome))


async def test_an_error_without_an_id_is_the_errors_of_the_only_request(call: Caller, peer: Peer) -> None:
    peer.answers("tools/call", 200, {"jsonrpc": "2.0", "error": {"code": -32603, "message": "broken"}})
    assert said(await call()) == "The upstream refused: broken"


@pytest.mark.parametrize(("status", "kind"), [(200, "text/html"), (202, ""), (204, ""), (200, "text/plain")])
async def test_what_is_neither_json_nor_a_stream_is_no_answer(
    call: Caller, peer: Peer, status: int, kind: str
) -> None:
    await call()
    peer.answers(
        "tools/call", status, "" if status != 200 else "<html>", **({"Content_Type": kind} if kind else {})
    )
    assert (await call()).failure == "upstream_invalid"


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", " application/json"])
async def test_the_content_type_may_be_written_as_one_likes(call: Caller, peer: Peer, kind: str) -> None:
    async def answer(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        return web.Response(
            body=json.dumps(result(message, text("fine"))).encode(), headers={"Content-Type": kind}
        )

    peer.instead["tools/call"] = answer
    assert said(await call()) == "fine"


@pytest.mark.parametrize("packed", [False, True])
async def test_an_answer_that_is_too_large_is_not_read_to_its_end(
    call: Caller, peer: Peer, packed: bool
) -> None:
    async def huge(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        body = json.dumps(result(message, text("x" * 3_000_000))).encode()
        headers = {"Content-Type": "application/json"} | ({"Content-Encoding": "gzip"} if packed else {})
        return web.Response(body=gzip.compress(body) if packed else body, headers=headers)

    peer.instead["tools/call"] = huge
    outcome = await call()
    assert outcome.failure == "answer_too_large"
    assert "100,000 bytes" in said(outcome)
    assert call.client.upstream.health().state == "healthy"


async def test_a_huge_refusal_is_not_read_to_its_end(call: Caller, peer: Peer) -> None:
    await call()
    peer.answers("tools/call", 418, "x" * 3_000_000)
    assert (await call()).failure == "upstream_status"


# ---- bytes that are no HTTP ------------------------------------------------------------------------------

Raw = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_peer(work: Raw) -> AsyncIterator[str]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await work(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def half_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write_eof()
    await reader.read()


async def half_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
    await writer.drain()


async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await writer.drain()


async def bad_packing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n"
    writer.write(head + b"not gzip!")
    await writer.drain()


async def bad_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"
    )
    await writer.drain()


async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100_000):
        writer.write(f"X-{number}: {'x' * 100}\r\n".encode())
        await writer.drain()


async def slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
    await reader.read()


async def black_hole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("work", "failures"),
    [
        (half_close, {"upstream_unreachable"}),
        (half_an_answer, {"upstream_invalid"}),
        (no_http, {"upstream_invalid", "upstream_unreachable"}),
        (bad_packing, {"upstream_invalid"}),
        (bad_chunks, {"upstream_invalid"}),
        (endless_headers, {"upstream_invalid", "upstream_unreachable", "upstream_timeout"}),
        (slow_body, {"upstream_timeout"}),
        (black_hole, {"upstream_timeout"}),
    ],
)
async def test_broken_connections_are_clear_failures_in_time(
    upstreams: Upstreams, work: Raw, failures: set[str]
) -> None:
    loop = asyncio.get_running_loop()
    async with raw_peer(work) as url:
        client = RemoteClient(Endpoint(url), upstreams.get("acme", url))
        began = loop.time()
        outcome = await client.call_tool("echo", {}, deadline=began + 0.5, limit=10_000)
        assert outcome.failure in failures
        assert loop.time() - began < 3
        assert client.upstream.is_idle
        assert client.era is None
        await client.close()
        await client.upstream.close()


async def test_a_slow_upstream_does_not_slow_another(call: Caller, peer: Peer, upstreams: Upstreams) -> None:
    await call()
    async with raw_peer(black_hole) as url:
        stuck = RemoteClient(Endpoint(url), upstreams.get("acme", url))
        deadline = asyncio.get_running_loop().time() + 0.4
        waiting = [
            asyncio.create_task(stuck.call_tool("t", {}, deadline=deadline, limit=1_000)) for _ in range(50)
        ]
        for _ in range(20):
            assert not (await call()).is_error
        assert not any(task.done() for task in waiting)
        # 32 were asked and not answered; the others never had their turn.
        failures = [outcome.failure for outcome in await asyncio.gather(*waiting)]
        assert Counter(failures) == {"upstream_timeout": 32, "upstream_busy": 18}
        await stuck.upstream.close()


async def test_the_upstreams_silence_is_told_to_the_breaker(call: Caller, peer: Peer) -> None:
    await call()
    peer.instead["tools/call"] = never
    call.seconds = 0.03
    for _ in range(5):
        assert (await call()).failure == "upstream_timeout"
    assert (await call()).failure == "upstream_unavailable"
