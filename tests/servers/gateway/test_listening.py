"""What a tool elsewhere says while it works reaches the client that wants to hear it, and nobody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mooring.scope import tenant_scope
from servers import services
from servers.models import CallRecord, Server
from tests.conftest import World
from tests.product.processes import host, until
from tests.servers.conftest import META, MODERN, GatewayDriver, Reply, Session
from tests.servers.runtimes.remote.sdk import serving

Json = dict[str, Any]
HANDSHAKE = ("2025-03-26", "2025-06-18", "2025-11-25")


@pytest.fixture(scope="module", params=["modern", "handshake"])
def far(request: pytest.FixtureRequest) -> Iterator[str]:
    """The official SDK's server, of either era."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    running = serving(request.param)

    def do(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    try:
        yield do(running.__aenter__())
    finally:
        do(running.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture
def at(far: str, world: World, gateway: GatewayDriver) -> str:
    tool = {
        "name": "open_door",
        "input_schema": {"type": "object"},
        "remote": {"upstream": "far", "name": "talks", "digest": "0" * 64},
    }
    still = tool | {"name": "still", "cache": {"seconds": 60}, "annotations": {"readOnlyHint": True}}
    upstream = {"url": far, "headers": {"X-Key": "{secret:key}"}}
    manifest = {
        "mooring": 1,
        "server": {"title": "Far"},
        "secrets": {"key": {}},
        "upstreams": {"far": upstream},
        "tools": [tool, still],
    }
    served = host(world, manifest, slug="far")
    with tenant_scope(world.acme.id):
        server = Server.objects.get(slug="far")
        services.set_secret(server, name="key", value="hunter2", actor=world.actor)
    gateway.settle()
    return served


@pytest.fixture
def key(world: World, key_of: Callable[..., str]) -> str:
    return key_of(world.acme)


def asked(gateway: GatewayDriver, at: str, key: str, tool: str = "open_door", **meta: Any) -> Reply:
    """A call on the newest revision."""
    full = {META + "protocolVersion": MODERN, META + "clientCapabilities": {}} | meta
    return gateway.modern(
        at, "tools/call", {"name": tool, "arguments": {}}, key=key, meta=full, identifier="c1"
    )


def told(reply: Reply, kind: str) -> list[Json]:
    return [
        message["params"] for message in reply.messages if message.get("method") == f"notifications/{kind}"
    ]


def text_of(response: Json) -> str:
    text: str = response["result"]["content"][0]["text"]
    return text


def test_progress_comes_before_the_answer_with_the_clients_own_token(
    at: str, gateway: GatewayDriver, key: str
) -> None:
    reply = asked(gateway, at, key, progressToken="mine")
    assert reply.headers["x-accel-buffering"] == "no"
    assert told(reply, "progress") == [
        {"progressToken": "mine", "progress": 0, "total": 100},
        {"progressToken": "mine", "progress": 50, "total": 100, "message": "turning •••"},
        {"progressToken": "mine", "progress": 100, "total": 100},
    ]
    assert told(reply, "message") == []
    answer = reply.messages[-1]
    assert (answer["id"], text_of(answer)) == ("c1", "opened")


def test_log_messages_come_from_the_level_that_is_asked_for(
    at: str, gateway: GatewayDriver, key: str
) -> None:
    reply = asked(gateway, at, key, **{META + "logLevel": "info"})
    assert told(reply, "message") == [
        {"level": "warning", "logger": "door", "data": {"door": "locked", "key": "•••"}},
        {"level": "info", "data": "open"},
    ]
    assert told(reply, "progress") == []
    everything = asked(gateway, at, key, **{META + "logLevel": "debug"})
    assert [log["level"] for log in told(everything, "message")] == ["debug", "warning", "info"]


def test_who_asks_for_nothing_gets_one_json_answer(at: str, gateway: GatewayDriver, key: str) -> None:
    reply = asked(gateway, at, key)
    assert reply.headers["content-type"] == "application/json"
    assert text_of(reply.json) == "opened"


def test_who_cannot_take_a_stream_gets_one_json_answer(at: str, gateway: GatewayDriver, key: str) -> None:
    full = {META + "protocolVersion": MODERN, META + "clientCapabilities": {}, "progressToken": 1}
    reply = gateway.modern(
        at,
        "tools/call",
        {"name": "open_door", "arguments": {}},
        key=key,
        meta=full,
        headers={"accept": "application/json"},
    )
    assert reply.headers["content-type"] == "application/json"
    assert text_of(reply.json) == "opened"


@pytest.mark.parametrize("revision", HANDSHAKE)
def test_a_session_hears_what_it_was_set_to(at: str, gateway: GatewayDriver, key: str, revision: str) -> None:
    session: Session = gateway.session(at, revision, key=key)
    params = {"name": "open_door", "arguments": {}}
    assert session.request("tools/call", params).headers["content-type"] == "application/json"
    assert session.request("logging/setLevel", {"level": "warning"}).status == 200
    reply = session.request("tools/call", params | {"_meta": {"progressToken": 7}})
    assert [log["level"] for log in told(reply, "message")] == ["warning"]
    assert [step["progress"] for step in told(reply, "progress")] == [0, 50, 100]
    assert {step["progressToken"] for step in told(reply, "progress")} == {7}
    assert text_of(reply.messages[-1]) == "opened"


def test_a_call_that_was_listened_to_is_recorded_once_with_all_that_was_sent(
    at: str, gateway: GatewayDriver, key: str, world: World
) -> None:
    reply = asked(gateway, at, key, progressToken=1)

    def rows() -> list[tuple[str, int]]:
        with tenant_scope(world.acme.id):
            found = CallRecord.objects.filter(method="tools/call")
            return list(found.values_list("status", "answer_bytes"))

    until(lambda: bool(rows()), "the record to be shipped")
    ((status, size),) = rows()
    assert status == "ok"
    assert 0 < len(reply.body) - size < 100  # but for what frames the last event


def test_a_remembered_answer_is_nobodys_progress(at: str, gateway: GatewayDriver, key: str) -> None:
    """Several may wait for it, and most find it made."""
    for _ in range(2):
        reply = asked(gateway, at, key, tool="still", progressToken=1)
        assert reply.headers["content-type"] == "application/json"
        assert text_of(reply.json) == "opened"


@pytest.mark.parametrize("token", [True, None, 1.5, {"a": 1}])
def test_a_token_of_the_wrong_type_asks_for_nothing(
    at: str, gateway: GatewayDriver, key: str, token: Any
) -> None:
    reply = asked(gateway, at, key, progressToken=token)
    assert reply.headers["content-type"] == "application/json"
