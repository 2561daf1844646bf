"""Batches: a body with several messages is several calls, each limited, recorded and answered for itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mooring.scope import tenant_scope
from servers.gateway import batches
from servers.models import CallRecord
from tenants.models import Plan
from tenants.services import change_plan
from tests.conftest import World
from tests.product.processes import echo, host, until
from tests.servers.conftest import GatewayDriver, Reply, Session

MARCH = "2025-03-26"


@pytest.fixture
def at(world: World, gateway: GatewayDriver) -> str:
    served = host(world, echo("say"))
    gateway.settle()
    return served


@pytest.fixture
def session(at: str, gateway: GatewayDriver, world: World, key_of: Callable[..., str]) -> Session:
    return gateway.session(at, MARCH, key=key_of(world.acme))


def sent(session: Session, *messages: Any, **headers: str) -> Reply:
    fields = {"authorization": f"Bearer {session.key}", "mcp-session-id": session.token}
    return session.driver.send(
        f"/t/{session.at}/mcp", json.dumps(list(messages)).encode(), headers=fields | headers
    )


def say(identifier: int | str, text: str = "hello", tool: str = "say") -> dict[str, Any]:
    params = {"name": tool, "arguments": {"text": text}}
    return {"jsonrpc": "2.0", "id": identifier, "method": "tools/call", "params": params}


def notice() -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}}


def calls(world: World) -> list[str]:
    with tenant_scope(world.acme.id):
        return sorted(CallRecord.objects.exclude(method="initialize").values_list("method", flat=True))


def test_each_request_of_a_batch_is_answered_in_one_array_in_their_order(session: Session) -> None:
    reply = sent(
        session, say("a", "one"), notice(), say(2, "two"), {"jsonrpc": "2.0", "id": 3, "method": "ping"}
    )
    assert reply.status == 200
    answers = reply.json
    assert [answer["id"] for answer in answers] == ["a", 2, 3]
    assert [answer["result"].get("content", [{}])[0].get("text") for answer in answers] == [
        "one",
        "two",
        None,
    ]


def test_a_batch_of_notifications_has_no_answer(session: Session) -> None:
    reply = sent(session, notice(), notice())
    assert (reply.status, reply.body) == (202, b"")


def test_what_is_wrong_with_one_request_is_told_in_its_place(session: Session) -> None:
    unknown = {"jsonrpc": "2.0", "id": 3, "method": "nothing/here"}
    first, second, third = sent(session, say(1), say(2, tool="nobody"), unknown).json
    assert first["result"]["content"][0]["text"] == "hello"
    assert (second["id"], second["error"]["code"]) == (2, -32602)
    assert (third["id"], third["error"]["code"]) == (3, -32601)


def test_each_message_is_a_call_in_the_log(session: Session, world: World) -> None:
    sent(session, say(1), notice(), say(2, tool="nobody"))
    expected = ["notifications/cancelled", "tools/call", "tools/call"]
    until(lambda: len(calls(world)) == 3, "the records to be shipped")
    assert calls(world) == expected
    with tenant_scope(world.acme.id):
        rows = CallRecord.objects.filter(method="tools/call")
        assert {(row.status, row.revision) for row in rows} == {("ok", MARCH), ("refused", MARCH)}
        assert len({row.request_id for row in rows}) == 2


def test_each_message_counts_against_the_plan(session: Session, world: World, gateway: GatewayDriver) -> None:
    plan = Plan.objects.create(name=f"tiny-{world.acme.slug}", calls_per_minute=10)
    with tenant_scope(world.acme.id):
        change_plan(world.acme, plan=plan, actor=world.actor)
    gateway.settle()
    answers = sent(session, *(say(number) for number in range(10))).json
    codes = [answer["error"]["code"] for answer in answers if "error" in answer]
    assert 0 < len(codes) < 10
    assert set(codes) == {429}
    refused = next(answer for answer in answers if "error" in answer)
    assert refused["error"]["data"]["retryAfter"] >= 1


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [say(1), 5],
        [say(1), {"jsonrpc": "2.0", "id": 2, "result": {}}],
        [say(1), [say(2)]],
        [say(1), {"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": {}}],
        [say(1)] * (batches.MOST_MESSAGES + 1),
        [
            say(1),
            say(2)
            | {"params": {"name": "say", "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}},
        ],
    ],
)
def test_a_batch_that_cannot_be_taken_is_refused_before_any_of_it_runs(
    session: Session, world: World, messages: list[Any]
) -> None:
    reply = sent(session, *messages)
    assert reply.status == 400
    assert session.request("ping").status == 200
    until(lambda: "ping" in calls(world), "the record behind it to be shipped")
    assert calls(world) == ["ping"]


@pytest.mark.parametrize("revision", ["2025-06-18", "2025-11-25"])
def test_later_revisions_have_no_batches(
    at: str, gateway: GatewayDriver, world: World, key_of: Callable[..., str], revision: str
) -> None:
    later = gateway.session(at, revision, key=key_of(world.acme))
    assert sent(later, say(1)).status == 400


def test_a_batch_needs_a_session_of_its_sender(
    session: Session, world: World, key_of: Callable[..., str]
) -> None:
    assert sent(session, say(1), **{"mcp-session-id": ""}).status == 400
    other = f"Bearer {key_of(world.acme)}"
    assert sent(session, say(1), authorization=other).status == 404


def test_answers_that_are_too_large_together_are_refused_one_by_one(
    world: World, gateway: GatewayDriver, key_of: Callable[..., str]
) -> None:
    tenfold = {
        "name": "say",
        "input_schema": {"type": "object"},
        "static": {"kind": "text", "text": "{text}" * 10},
    }
    at = host(world, {"mooring": 1, "server": {"title": "Tenfold"}, "tools": [tenfold]}, slug="tenfold")
    gateway.settle()
    session = gateway.session(at, MARCH, key=key_of(world.acme))
    answers = sent(session, *(say(number, "x" * 75_000) for number in range(batches.MOST_MESSAGES))).json
    told = [answer["error"]["code"] for answer in answers if "error" in answer]
    assert set(told) == {413}
    assert 0 < len(told) < batches.MOST_MESSAGES
