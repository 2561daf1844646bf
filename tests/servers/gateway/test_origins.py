"""Origins that are dead, silent, endless or broken: what their callers are told, and that nothing is left behind."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mooring.scope import tenant_scope
from tenants.models import Plan
from tenants.services import change_plan
from tests.conftest import World
from tests.origin import RudeOrigin, rude_origin
from tests.product.processes import host, until
from tests.protocol.requirements import requirement
from tests.servers.conftest import META, MODERN, GatewayDriver, Reply

# Of the tools here; what is asserted about time leaves a busy machine room.
TIMEOUT, BUSY = 1.0, 10.0
PATHS = {
    "fine": "/fine",
    "hanging": "/hanging",
    "endless": "/endless",
    "endless_head": "/endless-head",
    "slow": "/slow",
    "half_closed": "/half-closed",
    "half_closed_within": "/half-closed-within",
    "too_short": "/too-short",
    "too_long": "/too-long",
    "cut": "/cut",
    "no_http": "/no-http",
    "negative_length": "/negative-length",
    "two_lengths": "/two-lengths",
    "bad_chunk": "/bad-chunk",
    "no_gzip": "/no-gzip",
    "nothing": "/nothing",
}
UNREACHABLE = "The upstream could not be reached."
BROKEN = "The upstream's answer broke off or could not be unpacked."
INVALID = "The upstream's answer was not valid HTTP."
LATE = f"The upstream did not answer within {TIMEOUT:g} s."


@pytest.fixture(scope="module")
def rude() -> Iterator[tuple[RudeOrigin, str]]:
    with rude_origin() as running:
        yield running


def tool(name: str, url: str, seconds: float = TIMEOUT) -> dict[str, Any]:
    http = {"method": "GET", "url": url, "timeout_seconds": seconds}
    return {"name": name, "input_schema": {"type": "object"}, "http": http}


class Place:
    """A server in an organisation whose plan lets one call run at a time: a slot that is not released shows."""

    def __init__(self, gateway: GatewayDriver, at: str, key: str) -> None:
        self.gateway = gateway
        self.at = at
        self.key = key

    def call(self, name: str) -> Reply:
        return self.gateway.modern(self.at, "tools/call", {"name": name, "arguments": {}}, key=self.key)

    def failure(self, name: str) -> str:
        result = self.call(name).result
        assert result["isError"] is True, result
        return str(result["content"][0]["text"])

    def works(self) -> bool:
        reply = self.call("fine")
        return reply.status == 200 and reply.result.get("structuredContent") == {"fine": True}


@pytest.fixture
def place(
    gateway: GatewayDriver, world: World, key_of: Callable[..., str], rude: tuple[RudeOrigin, str]
) -> Place:
    plan = Plan.objects.create(name=f"one-{world.acme.slug}", concurrent_calls=1, answer_bytes=300_000)
    with tenant_scope(world.acme.id):
        change_plan(world.acme, plan=plan, actor=world.actor)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    tools = [tool(name, rude[1] + path) for name, path in PATHS.items()]
    tools += [tool("dead", f"{dead}/"), tool("patient", f"{rude[1]}/hanging", 60)]
    at = host(world, {"mooring": 1, "server": {"title": "Desk"}, "tools": tools})
    gateway.settle()
    return Place(gateway, at, key_of(world.acme))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dead", UNREACHABLE),
        ("cut", UNREACHABLE),
        ("nothing", UNREACHABLE),
        ("half_closed", UNREACHABLE),
        ("hanging", LATE),
        ("slow", LATE),
        ("endless", "The upstream's answer is larger than 300,000 bytes, the limit."),
        ("endless_head", INVALID),
        ("half_closed_within", BROKEN),
        ("too_short", BROKEN),
        ("bad_chunk", f"{BROKEN}|{INVALID}"),
        ("no_gzip", BROKEN),
        ("no_http", INVALID),
        ("negative_length", INVALID),
        ("two_lengths", INVALID),
    ],
)
def test_a_caller_is_told_what_the_origin_did_and_the_next_call_works(
    place: Place, rude: tuple[RudeOrigin, str], name: str, said: str
) -> None:
    began = time.monotonic()
    told = place.failure(name)
    assert time.monotonic() - began < TIMEOUT + BUSY
    assert any(sentence in told for sentence in said.split("|")), told
    for inner in ("127.0.0.1", "localhost", rude[1].rpartition(":")[2], "Errno", "aiohttp"):
        assert inner not in told
    assert place.works()
    until(lambda: rude[0].open[PATHS.get(name, "")] == 0, "the connection to be closed")


def test_what_follows_an_answer_is_never_taken_for_the_next_one(
    place: Place, rude: tuple[RudeOrigin, str]
) -> None:
    for _ in range(3):
        answers = [place.call(name).result for name in ("too_long", "fine")]
        assert "forged" not in json.dumps(answers)
        assert place.works()


def test_one_who_hangs_holds_its_slot_and_gives_it_back(place: Place, rude: tuple[RudeOrigin, str]) -> None:
    told: list[str] = []
    caller = threading.Thread(target=lambda: told.append(place.failure("hanging")))
    caller.start()
    until(lambda: rude[0].open["/hanging"] or told, "the call to arrive")
    refused = place.call("fine")
    caller.join()
    assert LATE in told[0]
    # On a machine that stood still for a second the call was over before.
    assert (refused.status, refused.status == 429 and refused.error["data"]["code"]) in {
        (429, "too_many_running"),
        (200, False),
    }
    assert place.works()


@requirement("2026-07-28/transport/disconnect")
def test_a_caller_who_leaves_takes_the_call_to_the_origin_along(
    place: Place, rude: tuple[RudeOrigin, str], gateway: GatewayDriver
) -> None:
    meta = {META + "protocolVersion": MODERN, META + "clientCapabilities": {}}
    params = {"name": "patient", "arguments": {}, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    headers = {
        "authorization": f"Bearer {place.key}",
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/call",
        "mcp-name": "patient",
    }
    leaving = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
    assert gateway.send(f"/t/{place.at}/mcp", headers=headers, more=leaving).status == 0
    until(lambda: rude[0].open["/hanging"] == 0, "the connection to be closed")
    assert place.works()


def test_an_origin_that_keeps_failing_is_left_alone_and_its_neighbour_is_not(
    place: Place, rude: tuple[RudeOrigin, str]
) -> None:
    for _ in range(5):
        assert UNREACHABLE in place.failure("dead")
    refused = place.call("dead").result
    assert "The upstream failed several times in a row." in refused["content"][0]["text"]
    told = refused["_meta"]["mooring/failure"]
    assert (told["code"], 20 < told["retryAfter"] <= 36) == ("upstream_unavailable", True)
    assert place.works()
