"""Calls of a remote tool: what is sent, and what becomes of every kind of answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from servers.protocol.headers import mirrored_parameters
from servers.runtimes.base import Outcome
from servers.runtimes.remote.asking import Era
from servers.runtimes.remote.client import RemoteClient
from servers.runtimes.remote.endpoint import Endpoint, Identity, Introduction
from servers.runtimes.remote.failures import CallFailed
from servers.runtimes.upstreams import Upstreams
from tests.servers.runtimes.remote.peers import META, Peer, modern, text

if TYPE_CHECKING:
    from tests.servers.runtimes.remote.conftest import Caller
from tests.servers.runtimes.remote.eras import ERAS, Json, every_era, gives, said

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
