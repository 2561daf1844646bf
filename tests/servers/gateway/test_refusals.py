"""What is refused, in which words, and the bounds of requests and answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mooring.scope import tenant_scope
from servers.pipeline.journal import Journal
from tenants.models import Plan
from tenants.services import change_plan
from tests.conftest import World
from tests.protocol.requirements import requirement
from tests.servers.conftest import MODERN, GatewayDriver
from tests.servers.gateway.desk import MANIFEST, published


@requirement("2026-07-28/messages/unreadable", "2026-07-28/messages/error-id")
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 80 + b"1" + b"}" * 81, 400),
        (b"[]", 400),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', 400),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', 400),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', 400),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', 400),
        (b'{"id":1,"Method":"ping","jsonrpc":"2.0"}', 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"a":1e400}}', 400),
        (b"\xff\xfe", 400),
    ],
)
@pytest.mark.parametrize("version", ["", "2025-06-18", "2025-11-25", MODERN])
def test_bad_bodies_are_refused_and_never_answered_with_a_null_id(
    gateway: GatewayDriver, desk: str, key: str, body: bytes, status: int, version: str
) -> None:
    headers = {"authorization": f"Bearer {key}", "mcp-protocol-version": version}
    reply = gateway.send(f"/t/{desk}/mcp", body, headers=headers)
    assert reply.status == status
    assert b'"id":null' not in reply.body
    if version in {"", "2025-06-18"} and reply.headers["content-type"] == "application/json":
        assert "id" in reply.json


def test_a_body_over_the_limit_is_refused_by_length_and_by_count(
    gateway: GatewayDriver, desk: str, key: str
) -> None:
    headers = {"authorization": f"Bearer {key}"}
    big = b"x" * (4 * 1024 * 1024 + 1)
    assert (
        gateway.send(f"/t/{desk}/mcp", big, headers=headers | {"content-length": str(len(big))}).status == 413
    )
    parts = [{"type": "http.request", "body": b"x" * 1024 * 1024, "more_body": True} for _ in range(10)]
    assert gateway.send(f"/t/{desk}/mcp", more=parts, headers=headers).status == 413
    assert len(parts) == 5


@requirement("2026-07-28/transport/origin", "2025-11-25/transport/get")
def test_hosts_origins_verbs_and_media_are_checked(gateway: GatewayDriver, desk: str, key: str) -> None:
    def status(verb: str = "POST", **headers: str) -> int:
        fields = {"authorization": f"Bearer {key}"} | {n.replace("_", "-"): v for n, v in headers.items()}
        return gateway.send(f"/t/{desk}/mcp", b"{}", verb=verb, headers=fields).status

    assert status(host="evil.example") == 421
    assert status(origin="https://evil.example") == 403
    assert status(origin="null") == 403
    assert status(origin="http://testserver") == 400
    assert status("GET") == 405
    assert status("PUT") == 405
    assert status(content_type="text/plain") == 415
    assert status(accept="text/html") == 406


def test_a_browser_is_sent_to_the_page_of_any_name(gateway: GatewayDriver) -> None:
    reply = gateway.send("/t/no-one/nothing/mcp", verb="GET", headers={"accept": "text/html,*/*"})
    assert (reply.status, reply.headers["location"]) == (303, "/s/no-one/nothing")


@requirement("2026-07-28/authorization/metadata")
def test_resource_metadata_answers_alike_for_private_and_missing(gateway: GatewayDriver, desk: str) -> None:
    path = "/.well-known/oauth-protected-resource/t/{}/mcp"
    there = gateway.send(path.format(desk), verb="GET").json
    missing = gateway.send(path.format("no-one/nothing"), verb="GET").json
    assert there["resource"] == f"http://testserver/t/{desk}/mcp"
    assert json.dumps(missing).replace("no-one/nothing", desk) == json.dumps(there)


def test_large_answers_are_compressed_for_those_who_ask(
    gateway: GatewayDriver, world: World, key: str
) -> None:
    tools = [
        {
            "name": f"t{n}",
            "description": "word " * 50,
            "input_schema": {"type": "object"},
            "static": {"kind": "echo"},
        }
        for n in range(90)
    ]
    at = published(world, gateway, MANIFEST | {"tools": tools})
    reply = gateway.modern(at, "tools/list", key=key, headers={"accept-encoding": "gzip"})
    assert reply.headers["content-encoding"] == "gzip"
    assert len(reply.result["tools"]) == 90
    plain = gateway.modern(at, "tools/list", key=key, headers={"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers


def test_a_plan_limits_calls_and_says_when_to_come_back(
    gateway: GatewayDriver, desk: str, key: str, world: World
) -> None:
    plan = Plan.objects.create(
        name=f"tiny-{world.acme.slug}", calls_per_minute=20, calls_per_minute_per_key=10
    )
    with tenant_scope(world.acme.id):
        change_plan(world.acme, plan=plan, actor=world.actor)
    gateway.settle()
    replies = [gateway.modern(desk, "tools/list", key=key) for _ in range(3)]
    assert replies[0].status == 200
    refused = replies[-1]
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["ratelimit"].startswith('"rate-limited";r=0;t=')
    assert refused.error["data"]["class"] == "client"
    assert refused.error["data"]["retryAfter"] >= 1
    assert refused.json["id"] == 1


def test_while_calls_cannot_be_recorded_none_are_taken(
    gateway: GatewayDriver, desk: str, key: str, tmp_path: Path
) -> None:
    plane = gateway.app.plane
    full, kept = Journal(tmp_path, reserve=1 << 62), plane.journal
    plane.journal = full
    try:
        reply = gateway.modern(desk, "tools/list", key=key)
    finally:
        plane.journal = kept
        full.close()
    assert reply.status == 503
    assert reply.error["data"]["code"] == "journal_unavailable"
    assert full.appended == 0
    assert gateway.modern(desk, "tools/list", key=key).status == 200


def test_placeholders_cannot_multiply_to_more_than_an_answer_may_hold(
    gateway: GatewayDriver, world: World, key: str
) -> None:
    bomb = "{a}" * 30_000
    arguments = [{"name": "a", "required": True}]
    at = published(
        world,
        gateway,
        MANIFEST
        | {
            "tools": [
                {"name": "bomb", "input_schema": {"type": "object"}, "static": {"kind": "text", "text": bomb}}
            ],
            "prompts": [
                {"name": "bomb", "arguments": arguments, "messages": [{"role": "user", "text": bomb}] * 3}
            ],
            "resource_templates": [{"name": "bomb", "uri_template": "bomb://{a}", "text": bomb}],
        },
    )
    long = "x" * 1_900
    tool = gateway.call(at, "bomb", {"a": long}, key=key)
    assert tool["isError"] is True
    prompt = gateway.modern(at, "prompts/get", {"name": "bomb", "arguments": {"a": long}}, key=key)
    resource = gateway.modern(at, "resources/read", {"uri": f"bomb://{long}"}, key=key)
    assert [prompt.error["code"], resource.error["code"]] == [-32602, -32602]


@requirement("2026-07-28/completion/errors", "2026-07-28/transport/header-mismatch")
def test_odd_references_and_headers_are_refused_and_no_bug(
    gateway: GatewayDriver, desk: str, key: str
) -> None:
    params = {"ref": {"type": "ref/resource", "uri": []}, "argument": {"name": "a", "value": ""}}
    assert gateway.modern(desk, "completion/complete", params, key=key).error["code"] == -32602
    reply = gateway.modern(
        desk, "tools/call", {"name": "echo"}, key=key, headers={"mcp-name": "=?base64?é?="}
    )
    assert (reply.status, reply.error["code"]) == (400, -32020)
