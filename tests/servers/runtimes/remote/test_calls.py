"""Calls of a remote tool: what is sent, and what becomes of every kind of answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from servers.protocol.errors import ProtocolError
from servers.protocol.headers import mirrored_parameters
from servers.runtimes.base import Outcome
from servers.runtimes.remote.asking import Era
from servers.runtimes.remote.client import RemoteClient
from servers.runtimes.remote.endpoint import Endpoint, Identity, Introduction
from servers.runtimes.remote.failures import CallFailed, Refused
from servers.runtimes.upstreams import Upstreams
from tests.servers.runtimes.remote.peers import (
    META,
    Peer,
    error,
    event,
    handshake,
    modern,
    never,
    result,
    stream,
    text,
)

if TYPE_CHECKING:
    from tests.servers.runtimes.remote.conftest import Caller

Json = dict[str, Any]
ERAS = {"modern": modern, "handshake": handshake(), "events": handshake(as_events=True), "stream": stream}
every_era = pytest.mark.parametrize("era", list(ERAS))


def said(outcome: Outcome) -> str:
    assert outcome.is_error
    return str(outcome.content[0]["text"])


def gives(peer: Peer, value: Json, method: str = "tools/call") -> None:
    async def answer(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        return web.json_response(result(message, value))

    peer.instead[method] = answer


def refuses(peer: Peer, code: int, message: str = "no", data: Any = None, status: int = 200) -> None:
    async def answer(peer: Peer, request: web.Request, asked: Json) -> web.StreamResponse:
        return web.json_response(error(asked, code, message, data), status=status)

    for method in ("tools/call", "resources/read", "prompts/get"):
        peer.instead[method] = answer


# ---- what is sent ----------------------------------------------------------------------------------------


@every_era
async def test_every_era_is_called_in_its_own_words(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    assert await call("héllo") == Outcome([{"type": "text", "text": "héllo"}])
    [sent] = peer.said("tools/call")
    params = sent.message["params"]
    assert params.pop("name") == "echo"
    assert params.pop("arguments") == {"text": "héllo"}
    assert ("_meta" in params) == (era == "modern")
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.headers["Accept"] == "application/json, text/event-stream"


async def test_a_modern_request_says_who_asks_and_repeats_itself_in_headers(
    peer: Peer, upstreams: Upstreams
) -> None:
    client = RemoteClient(
        Endpoint(peer.url), upstreams.get("acme", "x"), introduction=Introduction(version="3.1")
    )
    deadline = asyncio.get_running_loop().time() + 5
    await client.read_resource("file:///ü", deadline=deadline, limit=10_000)
    sent = peer.last
    assert sent.message["params"]["_meta"] == {
        META + "protocolVersion": "2026-07-28",
        META + "clientInfo": {"name": "Mooring", "version": "3.1"},
        META + "clientCapabilities": {},
    }
    assert sent.headers["MCP-Protocol-Version"] == "2026-07-28"
    assert sent.headers["Mcp-Method"] == "resources/read"
    assert sent.headers["Mcp-Name"] == "=?base64?ZmlsZTovLy/DvA==?="
    assert "Mcp-Session-Id" not in sent.headers


async def test_annotated_arguments_travel_in_headers_too(call: Caller, peer: Peer) -> None:
    schema = {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "days": {"type": "integer", "x-mcp-header": "Days"},
            "deep": {"type": "object", "properties": {"on": {"type": "boolean", "x-mcp-header": "On"}}},
            "gone": {"type": "string", "x-mcp-header": "Gone"},
            "odd": {"type": "string", "x-mcp-header": "Odd"},
        },
    }
    arguments = {"region": " é", "days": 42.0, "deep": {"on": False}, "gone": None, "odd": 7}
    await call.client.call_tool(
        "t", arguments, deadline=call.deadline, limit=1_000, mirrored=mirrored_parameters(schema)
    )
    headers = {name.lower(): value for name, value in peer.last.headers.items()}
    assert {name: value for name, value in headers.items() if name.startswith("mcp-param-")} == {
        "mcp-param-region": "=?base64?IMOp?=",
        "mcp-param-days": "42",
        "mcp-param-on": "false",
    }


async def test_an_argument_no_header_can_carry_is_refused_before_anything_is_sent(
    call: Caller, peer: Peer
) -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string", "x-mcp-header": "T"}}}
    mirrored = mirrored_parameters(schema)
    assert (await call("x" * 9_000, mirrored=mirrored)).failure == "argument_refused"
    assert (await call("\ud800", mirrored=mirrored)).failure == "argument_refused"
    assert (await call("\ud800")).failure == "argument_refused"
    assert not peer.said("tools/call")


@every_era
async def test_the_headers_of_the_endpoint_are_in_every_request(
    peer: Peer, upstreams: Upstreams, era: str
) -> None:
    peer.serve = ERAS[era]
    endpoint = Endpoint(peer.url + "?tenant=7#part", (("Authorization", "Bearer s3cret"), ("X-Team", "ä")))
    client = RemoteClient(endpoint, upstreams.get("acme", "x"))
    deadline = asyncio.get_running_loop().time() + 5
    assert not (await client.call_tool("echo", {}, deadline=deadline, limit=1_000)).is_error
    await client.close()
    assert {received.headers["Authorization"] for received in peer.received} == {"Bearer s3cret"}
    assert {received.headers["User-Agent"] for received in peer.received} == {"Mooring"}
    assert not any("Cookie" in received.headers for received in peer.received)


async def test_an_identity_brings_its_own_credential(call: Caller, peer: Peer) -> None:
    identity = Identity("alice", (("Authorization", "Bearer alice"),))
    await call(identity=identity)
    assert peer.last.headers["Authorization"] == "Bearer alice"
    await call()
    assert "Authorization" not in peer.last.headers


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("ftp://x.example/", ()),
        ("https:///mcp", ()),
        ("mcp", ()),
        ("https://user:pass@x.example/mcp", ()),
        ("https://x.example/" + "a" * 5_000, ()),
        ("https://x.example:99999/", ()),
        ("https://x.example/", (("Bad Name", "x"),)),
        ("https://x.example/", (("X-A", "line\r\nX-B: 1"),)),
        ("https://x.example/", (("X-A", "nul\0"),)),
        *[
            ("https://x.example/", ((name, "x"),))
            for name in (
                "Host",
                "cookie",
                "Mcp-Session-Id",
                "LAST-EVENT-ID",
                "mcp-param-region",
                "Connection",
            )
        ],
    ],
)
def test_an_endpoint_that_could_not_work_or_would_smuggle_is_refused(
    url: str, headers: tuple[tuple[str, str], ...]
) -> None:
    with pytest.raises(ValueError, match=r"\.$") as refused:
        Endpoint(url, headers)
    assert "pass" not in str(refused.value)


async def test_the_session_may_lead_to_a_socket_of_this_machine(tmp_path: Path) -> None:
    path = str(tmp_path / "code.sock")
    upstreams = Upstreams(lambda: aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)))

    async def handle(request: web.Request) -> web.StreamResponse:
        return await modern(Peer(), request, await request.json())

    app = web.Application()
    app.router.add_post("/servers/7/mcp", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, path).start()
    client = RemoteClient(Endpoint("http://runner/servers/7/mcp"), upstreams.get("acme", "7"))
    deadline = asyncio.get_running_loop().time() + 5
    outcome = await client.call_tool("echo", {"text": "inside"}, deadline=deadline, limit=1_000)
    assert outcome.content[0]["text"] == "inside"
    await client.close()
    await upstreams.close()
    await runner.cleanup()


# ---- results ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (text("x") | {"isError": True}, Outcome([{"type": "text", "text": "x"}], is_error=True)),
        ({"content": [], "structuredContent": None}, Outcome([], None)),
        ({"content": [], "structuredContent": [1, {"a": None}]}, Outcome([], [1, {"a": None}])),
        ({"structuredContent": {"a": 1}, "_meta": {"x": 1}, "extra": 1}, Outcome([], {"a": 1})),
        ({"resultType": "complete", **text("x")}, Outcome([{"type": "text", "text": "x"}])),
        (
            {"content": [{"type": "hologram", "data": 1, "_meta": {"a": 1}, "annotations": {"priority": 1}}]},
            Outcome([{"type": "hologram", "data": 1, "_meta": {"a": 1}, "annotations": {"priority": 1}}]),
        ),
        (
            {"content": [{"type": "resource_link", "uri": "a:b", "name": "n"}]},
            Outcome([{"type": "resource_link", "uri": "a:b", "name": "n"}]),
        ),
    ],
)
async def test_results_pass_as_they_are(call: Caller, peer: Peer, value: Json, outcome: Outcome) -> None:
    gives(peer, value)
    assert await call() == outcome


@pytest.mark.parametrize(
    "value",
    [
        {"content": "text"},
        {"content": [1]},
        {"content": [{"text": "no type"}]},
        {"content": [{"type": 5}]},
        {"content": [{"type": "resource_link", "name": "no uri"}]},
        {"content": [], "isError": "yes"},
        {"resultType": "task", "taskId": "t"},
        {"resultType": 5},
        {"content": [], "structuredContent": json.loads("[" * 300 + "]" * 300)},
    ],
)
async def test_results_that_are_none_are_clear_failures(call: Caller, peer: Peer, value: Json) -> None:
    gives(peer, value)
    outcome = await call()
    assert outcome.failure == "upstream_invalid"
    assert said(outcome).startswith("The upstream")


async def test_what_the_upstream_asks_the_user_is_named(call: Caller, peer: Peer) -> None:
    asked = {
        "who": {"method": "elicitation/create", "params": {"message": "Which \x1b[31maccount?"}},
        "dirs": {"method": "roots/list"},
    }
    gives(peer, {"resultType": "input_required", "inputRequests": asked, "requestState": "s"})
    outcome = await call()
    assert outcome.failure == "input_required"
    assert "elicitation/create “Which [31maccount?”; roots/list" in said(outcome)
    gives(peer, {"resultType": "input_required", "inputRequests": asked}, "resources/read")
    with pytest.raises(CallFailed, match="roots/list"):
        await call.client.read_resource("a:b", deadline=call.deadline, limit=1_000)
    gives(peer, {"resultType": "input_required", "requestState": "s"})
    assert said(await call()) == "The upstream is not ready yet. Try again later."


async def test_resources_prompts_and_completions(call: Caller, peer: Peer) -> None:
    ask: dict[str, Any] = {"deadline": call.deadline, "limit": 10_000}
    reading = await call.client.read_resource("a:b", **ask)
    assert (reading.contents, reading.ttl_ms, reading.is_public) == (
        [{"uri": "a:b", "text": "hello"}],
        0,
        False,
    )
    gives(
        peer, {"contents": [{"uri": "a:b", "blob": ""}], "ttlMs": 9, "cacheScope": "public"}, "resources/read"
    )
    reading = await call.client.read_resource("a:b", **ask)
    assert (reading.ttl_ms, reading.is_public) == (9, True)
    prompt = await call.client.get_prompt("greet", {"name": "Ada"}, **ask)
    assert prompt.messages == [{"role": "user", "content": {"type": "text", "text": "hi"}}]
    assert peer.last.message["params"]["arguments"] == {"name": "Ada"}
    completion = await call.client.complete(
        {"type": "ref/prompt", "name": "greet"}, {"name": "city", "value": "R"}, **ask
    )
    assert completion.values == ["Rome", "Riga"]
    gives(peer, {"completion": {"values": ["x"] * 150, "total": 150}}, "completion/complete")
    completion = await call.client.complete({}, {}, {"arguments": {"a": "b"}}, **ask)
    assert (len(completion.values), completion.total, completion.has_more) == (100, 150, True)
    assert peer.last.message["params"]["context"] == {"arguments": {"a": "b"}}


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("resources/read", {"contents": [{"text": "no uri"}]}),
        ("resources/read", {"contents": [{"uri": "a:b"}]}),
        ("resources/read", {"contents": [{"uri": "a:b", "text": 5}]}),
        ("prompts/get", {"messages": [{"role": "user"}]}),
        ("prompts/get", {"messages": ["hi"]}),
        ("completion/complete", {"completion": {"values": [1]}}),
    ],
)
async def test_other_results_that_are_none_are_clear_failures(
    call: Caller, peer: Peer, method: str, value: Json
) -> None:
    gives(peer, value, method)
    ask: dict[str, Any] = {"deadline": call.deadline, "limit": 10_000}
    work: dict[str, Any] = {
        "resources/read": lambda: call.client.read_resource("a:b", **ask),
        "prompts/get": lambda: call.client.get_prompt("p", {}, **ask),
        "completion/complete": lambda: call.client.complete({}, {}, **ask),
    }
    with pytest.raises(CallFailed) as failed:
        await work[method]()
    assert failed.value.failure == "upstream_invalid"


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


# ---- probes ----------------------------------------------------------------------------------------------


@every_era
async def test_a_probe_says_that_an_upstream_is_well(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    for _ in range(3):
        health = await call.client.probe()
        assert (health.state, health.detail) == ("healthy", "")
        assert health.data["era"] == (call.client.era.value if call.client.era else "")
    assert not peer.said("tools/call")
    assert peer.opened == (0 if era == "modern" else 1)


async def test_an_upstream_that_wants_credentials_is_alive(call: Caller, peer: Peer) -> None:
    peer.answers("server/discover", 401)
    health = await call.client.probe()
    assert (health.state, health.detail) == ("healthy", "It is there and asks for credentials.")
    peer.answers("server/discover", 429)
    assert (await call.client.probe()).state == "degraded"
    peer.answers("server/discover", 503)
    health = await call.client.probe()
    assert (health.state, health.data["failure"]) == ("unhealthy", "upstream_failed")
    peer.instead["server/discover"] = never
    health = await call.client.probe(seconds=0.05)
    assert (health.state, health.data["failure"]) == ("unhealthy", "upstream_timeout")


@every_era
async def test_a_probe_passes_by_a_full_house_and_an_open_breaker(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    await call()
    peer.answers("tools/call", 500)
    for _ in range(5):
        await call()
    assert (await call()).failure == "upstream_unavailable"
    assert (await call.client.probe()).state == "healthy"


async def test_a_probe_notices_a_new_era(call: Caller, peer: Peer) -> None:
    await call()
    peer.serve = handshake()
    assert (await call.client.probe()).data["era"] == "handshake"
    peer.sessions.clear()
    assert (await call.client.probe()).state == "healthy"
    assert peer.opened == 2


async def test_what_the_upstream_says_of_itself(call: Caller, peer: Peer) -> None:
    about = await call.client.about(deadline=call.deadline)
    assert (about.era, about.name, about.version, about.instructions) == (Era.MODERN, "peer", "7", "Ask.")
    assert about.capabilities is not None
    assert "prompts" in about.capabilities


async def test_a_refused_request_that_is_no_tool_is_raised(call: Caller, peer: Peer) -> None:
    refuses(peer, -32002, "none", {"uri": "a:b"})
    with pytest.raises(Refused) as refused:
        await call.client.read_resource("a:b", deadline=call.deadline, limit=1_000)
    assert refused.value.error.code == -32002


@every_era
async def test_an_upstream_is_told_how_long_its_answer_is_waited_for(
    call: Caller, peer: Peer, era: str
) -> None:
    peer.serve = ERAS[era]
    call.seconds = 7.9
    await call()
    asked = peer.said("tools/call")[-1]
    # The stream of 2024-11-05 takes a message and answers elsewhere, so there it would say nothing.
    assert asked.headers.get("Prefer") == (None if call.client.era is Era.STREAM else "wait=7")


@every_era
async def test_a_timeout_names_the_seconds_that_were_waited(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    await call()
    peer.instead["tools/call"] = never
    call.seconds = 0.25
    outcome = await call()
    assert outcome.content[0]["text"] == "The upstream did not answer within 0.25 s. Try again later."
