"""Tools and upstreams that lead back to this installation: the circle is told, and walked a few times only."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from mooring.egress.session import session
from mooring.scope import tenant_scope
from servers.gateway.app import Gateway
from servers.models import CallRecord
from servers.runtimes import hops
from servers.runtimes.breaker import FAILURES_TO_OPEN
from servers.runtimes.http.tool import compile_tool
from servers.runtimes.remote.endpoint import Endpoint
from servers.runtimes.upstreams import Upstreams
from tests.conftest import World
from tests.product.processes import echo, host, until
from tests.servers.conftest import META, MODERN, GatewayDriver

Json = dict[str, Any]
TEXT: Json = {"type": "object", "properties": {"text": {"type": "string"}}}


@pytest.fixture
def address(gateway: GatewayDriver, settings: Any) -> Iterator[str]:
    """The gateway on a socket: its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        settings.HOSTS = settings.HOSTS | {place}
        app = Gateway()
        app.plane = gateway.app.plane
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, loop="none"))
        serving = asyncio.run_coroutine_threadsafe(server.serve(sockets=[listener]), gateway._loop)
        until(lambda: server.started, "the server to listen")
        yield f"http://{place}"
        server.should_exit = True
        serving.result(10)


def manifest(**more: Any) -> Json:
    return {"mooring": 1, "server": {"title": "Desk"}, **more}


def leading_to(url: str) -> Json:
    """A server whose tool is that of an MCP server elsewhere."""
    remote = {"upstream": "next", "name": "again", "digest": "0" * 64, "timeout_seconds": 20}
    tool = {"name": "again", "input_schema": TEXT, "annotations": {"readOnlyHint": True}, "remote": remote}
    return manifest(upstreams={"next": {"url": url}}, tools=[tool])


def calling_itself(url: str) -> Json:
    """A server whose http tool posts a message to its own endpoint."""
    sent = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "again"}
    http = {
        "method": "POST",
        "url": url,
        "constants": [{"in": "header", "name": name, "value": value} for name, value in sent.items()],
        "body": {"argument": "message"},
        "response": {"as": "json"},
        "timeout_seconds": 20,
    }
    schema = {"type": "object", "properties": {"message": {"type": "object"}}}
    return manifest(tools=[{"name": "again", "input_schema": schema, "http": http}])


def nested(depth: int) -> Json:
    """A call of `again` whose argument is a call of `again`, and so on."""
    arguments = {"message": nested(depth - 1)} if depth else {}
    meta = {META + "protocolVersion": MODERN, META + "clientCapabilities": {}}
    params = {"name": "again", "arguments": arguments, "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def calls_of(world: World) -> int:
    return CallRecord.objects.filter(tenant=world.acme, method="tools/call").count()


def check_few_calls(world: World) -> None:
    """The one from outside, and one for each hop that is allowed."""
    with tenant_scope(world.acme.id):
        until(lambda: calls_of(world) > hops.MOST, "the calls to be in the log")
        assert calls_of(world) == hops.MOST + 1


def test_a_tool_that_calls_its_own_server_is_told_after_a_few_calls(
    gateway: GatewayDriver, world: World, address: str
) -> None:
    at = f"{world.acme.slug}/desk"
    assert host(world, calling_itself(f"{address}/t/{at}/mcp"), is_public=True) == at
    gateway.settle()
    answer = gateway.call(at, "again", {"message": nested(hops.MOST + 5)})
    told = json.dumps(answer)
    assert "508" in told
    assert "one of them calls itself" in told
    check_few_calls(world)


def test_upstreams_in_a_circle_are_told_after_a_few_calls(
    gateway: GatewayDriver, world: World, address: str
) -> None:
    for slug, following in (("one", "two"), ("two", "one")):
        url = f"{address}/t/{world.acme.slug}/{following}/mcp"
        host(world, leading_to(url), slug=slug, is_public=True)
    gateway.settle()
    answer = gateway.call(f"{world.acme.slug}/one", "again", {"text": "hello"})
    assert answer["isError"]
    assert "come through 6 servers" in answer["content"][0]["text"]
    assert "one of them calls itself" in answer["content"][0]["text"]
    check_few_calls(world)


def test_a_request_that_has_come_too_far_is_refused_in_words(
    gateway: GatewayDriver, world: World, key_of: Callable[..., str]
) -> None:
    at, key = host(world, echo("echo")), key_of(world.acme)
    gateway.settle()

    def asked(said: str) -> Any:
        return gateway.modern(
            at, "tools/call", {"name": "echo", "arguments": {}}, key=key, headers={"mooring-hops": said}
        )

    assert asked(str(hops.MOST)).status == 200
    far = asked(str(hops.MOST + 1))
    assert (far.status, far.json["id"], far.error["code"]) == (508, 1, 508)
    assert far.error["data"] | {"requestId": ""} == {
        "code": "loop_detected",
        "class": "client",
        "requestId": "",
    }
    for odd in ("-1", "one", "1, 2", "9999", "٣".encode().decode("latin-1")):
        assert (asked(odd).status, asked(odd).error["data"]["code"]) == (400, "bad_hops")


def test_a_batch_counts_as_one_request_on_its_way(gateway: GatewayDriver, world: World, address: str) -> None:
    at = f"{world.acme.slug}/one"
    host(world, leading_to(f"{address}/t/{at}/mcp"), slug="one", is_public=True)
    gateway.settle()
    session = gateway.session(at, "2025-03-26")
    params = {"name": "again", "arguments": {"text": "hello"}}
    batch = [{"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params} for number in (1, 2)]

    def sent(hops_behind: int) -> Any:
        headers = {"mcp-session-id": session.token, "mooring-hops": str(hops_behind)}
        return gateway.send(f"/t/{at}/mcp", json.dumps(batch).encode(), headers=headers)

    assert sent(hops.MOST + 1).status == 508
    told = [json.dumps(answer["result"]) for answer in sent(hops.MOST).json]
    assert ["status 508 Loop Detected" in text for text in told] == [True, True]


@pytest.mark.parametrize("kind", ["http", "remote"])
def test_strangers_who_claim_a_long_way_do_not_cut_an_upstream_off(
    gateway: GatewayDriver, world: World, address: str, kind: str
) -> None:
    """What comes back from where it was refused for that says nothing about who refused it."""
    far = host(world, echo("again"), slug="two", is_public=True)
    url = f"{address}/t/{far}/mcp"
    at = host(world, leading_to(url) if kind == "remote" else calling_itself(url), slug="one", is_public=True)
    gateway.settle()
    arguments = {"text": "hello"} if kind == "remote" else {"message": nested(0)}
    params = {"name": "again", "arguments": arguments}
    for _ in range(2 * FAILURES_TO_OPEN):
        told = gateway.modern(at, "tools/call", params, headers={"mooring-hops": str(hops.MOST)})
        assert told.result["isError"]
    assert not gateway.modern(at, "tools/call", params).result.get("isError")


@pytest.mark.parametrize("place", ["parameters", "constants"])
def test_a_tool_cannot_say_how_far_it_has_come(place: str) -> None:
    field = {"in": "header", "name": "mooring-HOPS"}
    field |= {"argument": "a"} if place == "parameters" else {"value": "0"}
    definition = {"method": "GET", "url": "https://api.example/", place: [field]}
    with pytest.raises(ValueError, match="written by Mooring itself"):
        compile_tool(definition, variables={}, secrets={}, upstreams=Upstreams(session), tenant="acme")


def test_an_upstream_cannot_be_told_another_number() -> None:
    with pytest.raises(ValueError, match="written by Mooring itself"):
        Endpoint("https://mcp.example/mcp", (("Mooring-Hops", "0"),))
