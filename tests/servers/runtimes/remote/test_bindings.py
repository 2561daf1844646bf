"""Tools, resources, prompts and completions as the pipeline uses them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from mooring.egress.guard import Guard
from mooring.egress.session import session
from servers.protocol.errors import ProtocolError
from servers.runtimes.base import Outcome, ToolCall
from servers.runtimes.http.masking import Mask
from servers.runtimes.remote.client import RemoteClient
from servers.runtimes.remote.endpoint import Endpoint
from servers.runtimes.remote.tool import (
    RemoteCall,
    RemoteCompletions,
    RemotePrompt,
    RemoteResources,
    RemoteTool,
)
from servers.runtimes.upstreams import Upstreams
from tests.servers.runtimes.remote.conftest import Caller
from tests.servers.runtimes.remote.peers import Peer, error, handshake, never, result

Json = dict[str, Any]


def tool_call(caller: Caller, principal: str = "", **arguments: Any) -> ToolCall:
    return ToolCall(arguments, caller.deadline, 10_000, principal=principal)


def remote_call(caller: Caller) -> RemoteCall:
    return RemoteCall(caller.deadline, 10_000)


def gives(peer: Peer, method: str, value: Any, *, is_error: bool = False) -> None:
    async def answer(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        return web.json_response(error(message, *value) if is_error else result(message, value))

    peer.instead[method] = answer


async def test_a_tool_is_called_by_its_upstreams_name(call: Caller, peer: Peer) -> None:
    tool = RemoteTool(call.client, "echo")
    assert not tool.is_immediate
    assert await tool.call(tool_call(call, text="hi")) == Outcome([{"type": "text", "text": "hi"}])
    assert peer.last.headers["Mcp-Name"] == "echo"


async def test_its_own_limit_of_time_holds_too(call: Caller, peer: Peer) -> None:
    await call()
    peer.instead["tools/call"] = never
    loop = asyncio.get_running_loop()
    began = loop.time()
    outcome = await RemoteTool(call.client, "echo", seconds=0.05).call(tool_call(call))
    assert (outcome.failure, loop.time() - began < 2) == ("upstream_timeout", True)


async def test_principals_never_share_an_upstream_session(call: Caller, peer: Peer) -> None:
    peer.serve = handshake()
    tool = RemoteTool(call.client, "echo")
    for principal in ("alice", "bob", "alice", "", ""):
        await tool.call(tool_call(call, principal))
    assert peer.opened == 3


async def test_secrets_an_upstream_echoes_are_hidden(call: Caller, peer: Peer) -> None:
    mask = Mask(["tr0ub4dor"])
    gives(
        peer,
        "tools/call",
        {"content": [{"type": "text", "text": "Bearer tr0ub4dor"}], "structuredContent": {"tr0ub4dor": 1}},
    )
    tool = RemoteTool(call.client, "echo", masking=mask)
    assert await tool.call(tool_call(call)) == Outcome([{"type": "text", "text": "Bearer •••"}], {"•••": 1})
    gives(peer, "tools/call", (-32603, "bad token tr0ub4dor"), is_error=True)
    assert "tr0ub4dor" not in str(await tool.call(tool_call(call)))
    gives(peer, "tools/call", (-32602, "bad token tr0ub4dor"), is_error=True)
    with pytest.raises(ProtocolError) as refused:
        await tool.call(tool_call(call))
    assert refused.value.message == "bad token •••"
    gives(peer, "resources/read", {"contents": [{"uri": "a:b", "text": "tr0ub4dor"}]})
    reading = await RemoteResources(call.client, masking=mask).read("a:b", remote_call(call))
    assert reading.contents == [{"uri": "a:b", "text": "•••"}]
    gives(
        peer,
        "prompts/get",
        {
            "description": "tr0ub4dor",
            "messages": [{"role": "user", "content": {"type": "text", "text": "tr0ub4dor"}}],
        },
    )
    prompt = await RemotePrompt(call.client, "p", masking=mask).get({}, remote_call(call))
    assert "tr0ub4dor" not in str(prompt)
    gives(peer, "completion/complete", {"completion": {"values": ["tr0ub4dor"]}})
    found = await RemoteCompletions(call.client, masking=mask).complete({}, {}, None, remote_call(call))
    assert found.values == ["•••"]


async def test_results_without_secrets_pass_untouched(call: Caller, peer: Peer) -> None:
    tool = RemoteTool(call.client, "echo", masking=Mask(["tr0ub4dor"]))
    gives(
        peer, "tools/call", {"content": [{"type": "text", "text": "1.0"}], "structuredContent": [1.0, 2**60]}
    )
    assert (await tool.call(tool_call(call))).structured == [1.0, 2**60]


@pytest.mark.parametrize(
    ("refusal", "reason", "code"),
    [
        ((-32602, "no", {"uri": "a:b"}), "resource_not_found", -32602),
        ((-32002, "no"), "resource_not_found", -32602),
        ((-32602, "bad"), "invalid_params", -32602),
        ((-32603, "broken"), "upstream_error", 502),
    ],
)
async def test_refusals_of_resources_are_errors_of_the_protocol(
    call: Caller, peer: Peer, refusal: Any, reason: str, code: int
) -> None:
    gives(peer, "resources/read", refusal, is_error=True)
    with pytest.raises(ProtocolError) as refused:
        await RemoteResources(call.client).read("a:b", remote_call(call))
    assert (refused.value.reason, refused.value.code) == (reason, code)
    if reason == "resource_not_found":
        assert refused.value.data == {"uri": "a:b"}


async def test_failures_of_transport_are_errors_with_a_status(call: Caller, peer: Peer) -> None:
    await call()
    peer.answers("prompts/get", 401)
    with pytest.raises(ProtocolError) as refused:
        await RemotePrompt(call.client, "p").get({}, remote_call(call))
    assert (refused.value.code, refused.value.http) == (502, 502)
    assert refused.value.data == {"code": "upstream_unauthorized", "class": "external"}
    peer.instead["prompts/get"] = never
    with pytest.raises(ProtocolError) as refused:
        await RemotePrompt(call.client, "p", seconds=0.05).get({}, remote_call(call))
    assert refused.value.code == 504
    with pytest.raises(ProtocolError) as refused:
        await RemotePrompt(call.client, "p").get({"a": "\ud800"}, remote_call(call))
    assert (refused.value.code, refused.value.reason) == (400, "argument_refused")
    gives(peer, "completion/complete", (-32603, "broken"), is_error=True)
    with pytest.raises(ProtocolError) as refused:
        await RemoteCompletions(call.client).complete({}, {}, None, remote_call(call))
    assert refused.value.code == 502


async def test_one_too_many_is_told_when_to_come_again(peer: Peer) -> None:
    upstreams = Upstreams(lambda: session(Guard(allow=["127.0.0.0/8"])), concurrency=1, queue=0)
    caller = Caller(RemoteClient(Endpoint(peer.url), upstreams.get("acme", peer.url)))
    await caller()
    peer.instead["tools/call"] = never
    running = asyncio.create_task(caller())
    while not peer.running:
        await asyncio.sleep(0.01)
    with pytest.raises(ProtocolError) as refused:
        await RemoteResources(caller.client).read("a:b", remote_call(caller))
    assert (refused.value.code, refused.value.headers) == (503, ((b"retry-after", b"1"),))
    assert refused.value.data == {"code": "upstream_busy", "class": "external", "retryAfter": 1}
    running.cancel()
    await asyncio.wait([running])
    await upstreams.close()
