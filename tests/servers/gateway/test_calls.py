"""The whole way of a call: who may, what is answered, in which revision's words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring.scope import tenant_scope
from servers import services
from servers.models import Server
from servers.pipeline.journal import Journal
from tenants.models import Plan
from tenants.services import change_plan, create_key, revoke_key
from tests.conftest import World
from tests.protocol.requirements import requirement
from tests.servers.conftest import META, MODERN, GatewayDriver, Reply

HANDSHAKES = ("2025-03-26", "2025-06-18", "2025-11-25")
MANIFEST: dict[str, Any] = {
    "mooring": 1,
    "server": {"title": "Desk", "instructions": "Be kind."},
    "tools": [
        {
            "name": "echo",
            "title": "Echo",
            "description": "Says it again",
            "input_schema": {
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
                "additionalProperties": False,
            },
            "annotations": {"readOnlyHint": True},
            "static": {"kind": "echo"},
        },
        {
            "name": "greet",
            "input_schema": {
                "type": "object",
                "properties": {"name": {"type": "string", "x-mcp-header": "Name"}},
                "required": ["name"],
            },
            "static": {"kind": "text", "text": "Hello {name}"},
        },
        {
            "name": "hidden",
            "enabled": False,
            "input_schema": {"type": "object"},
            "static": {"kind": "echo"},
        },
    ],
    "resources": [
        {"name": "rules", "uri": "handbook://rules", "mime_type": "text/plain", "text": "No running."},
        {"name": "dot", "uri": "handbook://dot", "mime_type": "image/png", "blob": "iVBORw0KGgo="},
    ],
    "resource_templates": [
        {
            "name": "person",
            "uri_template": "handbook://people/{who}",
            "text": "{who} works here.",
            "completions": {"who": ["ann", "anna", "bob"]},
        }
    ],
    "prompts": [
        {
            "name": "review",
            "description": "Review a text",
            "arguments": [{"name": "topic", "required": True, "completions": ["law", "lore"]}],
            "messages": [{"role": "user", "text": "Review {topic}."}],
        }
    ],
}


@pytest.fixture
def desk(world: World, gateway: GatewayDriver) -> str:
    """A published private server; `<tenant>/<server>`."""
    return published(world, gateway, MANIFEST)


def published(world: World, gateway: GatewayDriver, manifest: dict[str, Any], **fields: Any) -> str:
    with tenant_scope(world.acme.id):
        server = services.create_server(world.acme, slug="desk", title="Desk", actor=world.actor, **fields)
        services.replace_draft(server, manifest, actor=world.actor)
        services.publish(server, actor=world.actor)
    gateway.settle()
    return f"{world.acme.slug}/desk"


@pytest.fixture
def key(world: World, key_of: Callable[..., str]) -> str:
    return key_of(world.acme)


@requirement("2026-07-28/versioning/discover", "2026-07-28/caching/hints")
def test_a_modern_client_discovers_lists_and_calls(gateway: GatewayDriver, desk: str, key: str) -> None:
    found = gateway.modern(desk, "server/discover", key=key).result
    assert found["resultType"] == "complete"
    assert found["supportedVersions"][0] == MODERN
    assert found["instructions"] == "Be kind."
    assert found["_meta"][META + "serverInfo"]["name"] == "desk"
    listed = gateway.modern(desk, "tools/list", key=key).result
    assert [tool["name"] for tool in listed["tools"]] == ["echo", "greet"]
    assert listed["cacheScope"] == "private"
    assert listed["ttlMs"] >= 0
    answer = gateway.modern(
        desk,
        "tools/call",
        {"name": "greet", "arguments": {"name": "Ann"}},
        key=key,
        headers={"mcp-param-name": "Ann"},
    ).result
    assert answer["content"] == [{"type": "text", "text": "Hello Ann"}]
    assert "ttlMs" not in answer


@requirement("2025-11-25/lifecycle/initialize", "2025-11-25/lifecycle/initialized", "2025-11-25/ping/empty")
@pytest.mark.parametrize("revision", HANDSHAKES)
def test_a_handshake_client_opens_a_session_lists_and_calls(
    gateway: GatewayDriver, desk: str, key: str, revision: str
) -> None:
    session = gateway.session(desk, revision, key=key)
    assert session.opened["protocolVersion"] == revision
    assert session.opened["serverInfo"]["name"] == "desk"
    assert session.request("notifications/initialized", identifier=None).status == 202
    assert session.request("ping").result == {}
    tools = session.request("tools/list").result["tools"]
    assert ("title" in tools[0]) is (revision != "2025-03-26")
    called = session.request("tools/call", {"name": "echo", "arguments": {"text": "hi"}}).result
    assert "resultType" not in called
    assert ("structuredContent" in called) is (revision != "2025-03-26")


@requirement("2025-11-25/lifecycle/other-version")
@pytest.mark.parametrize(
    ("asked", "answered"), [("2026-07-28", "2025-11-25"), ("2024-11-05", "2025-11-25"), ("x", "2025-11-25")]
)
def test_a_handshake_never_settles_on_a_revision_without_one(
    gateway: GatewayDriver, desk: str, key: str, asked: str, answered: str
) -> None:
    opened = gateway.legacy(
        desk,
        "initialize",
        {"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
        key=key,
    )
    assert opened.result["protocolVersion"] == answered


@requirement(
    "2026-07-28/resources/read",
    "2026-07-28/resources/templates",
    "2026-07-28/prompts/get",
    "2026-07-28/completion/references",
)
def test_resources_templates_prompts_and_completion_answer(
    gateway: GatewayDriver, desk: str, key: str
) -> None:
    def ask(method: str, params: dict[str, Any]) -> Any:
        return gateway.modern(desk, method, params, key=key).result

    assert len(ask("resources/list", {})["resources"]) == 2
    assert (
        ask("resources/templates/list", {})["resourceTemplates"][0]["uriTemplate"]
        == "handbook://people/{who}"
    )
    assert ask("resources/read", {"uri": "handbook://rules"})["contents"][0]["text"] == "No running."
    assert ask("resources/read", {"uri": "handbook://dot"})["contents"][0]["blob"] == "iVBORw0KGgo="
    assert ask("resources/read", {"uri": "handbook://people/ann"})["contents"][0]["text"] == "ann works here."
    prompt = ask("prompts/get", {"name": "review", "arguments": {"topic": "law"}})
    assert prompt["messages"] == [{"role": "user", "content": {"type": "text", "text": "Review law."}}]
    proposals = ask(
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "review"}, "argument": {"name": "topic", "value": "l"}},
    )
    assert proposals["completion"]["values"] == ["law", "lore"]
    proposals = ask(
        "completion/complete",
        {
            "ref": {"type": "ref/resource", "uri": "handbook://people/{who}"},
            "argument": {"name": "who", "value": "an"},
        },
    )
    assert proposals["completion"]["values"] == ["ann", "anna"]


@requirement("2026-07-28/resources/missing", "2025-11-25/resources/missing")
def test_a_missing_resource_is_told_in_the_words_of_the_revision(
    gateway: GatewayDriver, desk: str, key: str
) -> None:
    modern = gateway.modern(desk, "resources/read", {"uri": "handbook://none"}, key=key)
    assert (modern.status, modern.error["code"]) == (400, -32602)
    assert modern.error["data"]["uri"] == "handbook://none"
    legacy = gateway.session(desk, "2025-06-18", key=key).request(
        "resources/read", {"uri": "handbook://none"}
    )
    assert (legacy.status, legacy.error["code"]) == (200, -32002)


@requirement("2026-07-28/transport/unknown-method", "2026-07-28/tools/unknown")
def test_unknown_methods_and_tools_are_refused(gateway: GatewayDriver, desk: str, key: str) -> None:
    reply = gateway.modern(desk, "tools/destroy", key=key)
    assert (reply.status, reply.error["code"]) == (404, -32601)
    reply = gateway.modern(desk, "tools/call", {"name": "nope"}, key=key)
    assert (reply.status, reply.error["code"]) == (400, -32602)
    reply = gateway.session(desk, "2025-11-25", key=key).request("tools/call", {"name": "nope"})
    assert (reply.status, reply.error["code"]) == (200, -32602)
    reply = gateway.modern(desk, "tools/call", {"name": "hidden"}, key=key)
    assert reply.error["code"] == -32602


@requirement("2026-07-28/tools/bad-arguments")
def test_arguments_that_do_not_fit_are_an_answer_that_says_why(
    gateway: GatewayDriver, desk: str, key: str
) -> None:
    result = gateway.call(desk, "echo", {"text": 5}, key=key)
    assert result["isError"] is True
    assert "text" in result["content"][0]["text"]


def without(meta: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in meta.items() if key != META + name}


FULL = {META + "protocolVersion": MODERN, META + "clientCapabilities": {}}


@requirement(
    "2026-07-28/meta/required",
    "2026-07-28/transport/header-mismatch",
    "2026-07-28/versioning/unsupported",
    "2026-07-28/logging/level",
)
@pytest.mark.parametrize(
    ("meta", "headers", "code", "status"),
    [
        (without(FULL, "clientCapabilities"), {}, -32602, 400),
        (without(FULL, "protocolVersion"), {}, -32602, 400),
        ({}, {"mcp-method": "wrong"}, -32602, 400),
        (FULL, {"mcp-method": "tools/call"}, -32020, 400),
        (FULL, {"mcp-method": ""}, -32020, 400),
        (FULL, {"mcp-protocol-version": ""}, -32020, 400),
        (FULL, {"mcp-protocol-version": "2025-11-25"}, -32020, 400),
        (FULL | {META + "protocolVersion": "v999"}, {}, -32020, 400),
        (FULL | {META + "protocolVersion": "v999"}, {"mcp-protocol-version": "v999"}, -32022, 400),
        (FULL | {META + "logLevel": "loud"}, {}, -32602, 400),
    ],
)
def test_the_modern_ladder_breaks_at_its_first_broken_rung(
    gateway: GatewayDriver,
    desk: str,
    key: str,
    meta: dict[str, Any],
    headers: dict[str, str],
    code: int,
    status: int,
) -> None:
    reply = gateway.modern(desk, "tools/list", key=key, meta=meta, headers=headers)
    assert (reply.error["code"], reply.status) == (code, status)
    assert reply.json["id"] == 1


@requirement("2026-07-28/transport/parameter-headers")
@pytest.mark.parametrize("header", ["Bob", "", "=?base64?!!?=", "=?base64?QW5u"])
def test_a_mirrored_argument_must_equal_its_header(
    gateway: GatewayDriver, desk: str, key: str, header: str
) -> None:
    reply = gateway.modern(
        desk,
        "tools/call",
        {"name": "greet", "arguments": {"name": "Ann"}},
        key=key,
        headers={"mcp-param-name": header},
    )
    assert (reply.status, reply.error["code"]) == (400, -32020)


@requirement("2026-07-28/transport/encoded-values")
def test_a_mirrored_argument_may_come_in_base64(gateway: GatewayDriver, desk: str, key: str) -> None:
    reply = gateway.modern(
        desk,
        "tools/call",
        {"name": "greet", "arguments": {"name": "Ann"}},
        key=key,
        headers={"mcp-param-name": "=?base64?QW5u?="},
    )
    assert reply.result["content"][0]["text"] == "Hello Ann"


def refusal(gateway: GatewayDriver, at: str, key: str = "", **headers: str) -> Reply:
    return gateway.modern(at, "tools/list", key=key, headers=headers)


@requirement("2026-07-28/authorization/challenge")
def test_without_a_credential_existing_and_missing_endpoints_answer_alike(
    gateway: GatewayDriver, desk: str, world: World
) -> None:
    there = refusal(gateway, desk)
    names = [f"{world.acme.slug}/nowhere", "nobody-at-all/desk", f"{desk}@9.9.9", f"{desk}@draft"]
    for at in names:
        missing = refusal(gateway, at)
        assert missing.status == there.status == 401
        challenge = there.headers["www-authenticate"].replace(desk, at)
        assert missing.headers["www-authenticate"] == challenge
        assert same(missing) == same(there)


def same(reply: Reply) -> dict[str, Any]:
    body: dict[str, Any] = reply.json
    del body["error"]["data"]["requestId"]
    return body


def test_a_valid_key_without_the_right_finds_nothing(
    gateway: GatewayDriver, desk: str, world: World, key_of: Callable[..., str]
) -> None:
    foreign = key_of(world.globex)
    assert refusal(gateway, desk, foreign).status == 404
    assert refusal(gateway, "nobody/desk", foreign).status == 404
    assert refusal(gateway, f"{desk}@draft", key_of(world.acme)).status == 404
    other = key_of(world.acme, servers=["0192f0c0-0000-7000-8000-000000000000"])
    assert refusal(gateway, desk, other).status == 404


@requirement("2026-07-28/authorization/bad-token")
@pytest.mark.parametrize("credential", ["moor_" + "a" * 38, "moor_short", "x", "moorplay_zzzz"])
def test_a_bad_credential_is_refused_even_where_none_is_needed(
    gateway: GatewayDriver, world: World, credential: str
) -> None:
    at = published(world, gateway, MANIFEST, is_public=True)
    assert refusal(gateway, at).status == 200
    reply = refusal(gateway, at, credential)
    assert reply.status == 401
    assert 'error="invalid_token"' in reply.headers["www-authenticate"]


def test_a_public_server_takes_a_foreign_key_for_anonymous(
    gateway: GatewayDriver, world: World, key_of: Callable[..., str]
) -> None:
    at = published(world, gateway, MANIFEST, is_public=True)
    assert refusal(gateway, at, key_of(world.globex)).status == 200
    assert refusal(gateway, f"{at}@draft").status == 401


@requirement("2026-07-28/authorization/bad-token")
def test_a_revoked_key_is_refused_as_soon_as_the_change_is_seen(
    gateway: GatewayDriver, desk: str, world: World
) -> None:
    with tenant_scope(world.acme.id):
        issued = create_key(world.acme, name="ci", user=world.alice, actor=world.actor)
    assert refusal(gateway, desk, issued.secret).status == 200
    with tenant_scope(world.acme.id):
        revoke_key(issued.row, actor=world.actor)
    gateway.settle()
    assert refusal(gateway, desk, issued.secret).status == 401


def test_versions_can_be_pinned_and_the_draft_called(
    gateway: GatewayDriver, desk: str, world: World, key_of: Callable[..., str]
) -> None:
    key = key_of(world.acme, scopes=["servers:call", "servers:test"])
    assert refusal(gateway, f"{desk}@1.0.0", key).status == 200
    with tenant_scope(world.acme.id):
        row = Server.objects.filter(slug="desk")[0]
        services.replace_draft(row, MANIFEST | {"tools": MANIFEST["tools"][:1]}, actor=world.actor)
    gateway.settle()
    assert len(gateway.modern(f"{desk}@1.0.0", "tools/list", key=key).result["tools"]) == 2
    assert len(gateway.modern(f"{desk}@draft", "tools/list", key=key).result["tools"]) == 1
    assert refusal(gateway, f"{desk}@2.0.0", key).status == 404


@requirement(
    "2025-11-25/sessions/required",
    "2025-11-25/sessions/unknown",
    "2025-11-25/sessions/no-credential",
    "2025-11-25/transport/version-header",
)
def test_sessions_belong_to_one_principal_and_server(
    gateway: GatewayDriver, desk: str, world: World, key: str, key_of: Callable[..., str]
) -> None:
    session = gateway.session(desk, "2025-11-25", key=key)
    assert gateway.legacy(desk, "ping", key=key).status == 400
    assert session.request("ping", session="nonsense").status == 404
    assert session.request("ping", key=key_of(world.acme)).status == 404
    assert len(session.token) <= 512
    assert session.request("ping", headers={"mcp-protocol-version": "2025-06-18"}).status == 400
    assert session.request("ping", headers={"mcp-protocol-version": ""}).status == 200


@requirement("2025-11-25/sessions/end", "2025-11-25/sessions/unknown")
def test_an_ended_session_is_unknown(gateway: GatewayDriver, desk: str, key: str) -> None:
    session = gateway.session(desk, "2025-06-18", key=key)
    headers = {"authorization": f"Bearer {key}", "mcp-session-id": session.token}
    assert gateway.send(f"/t/{desk}/mcp", verb="DELETE", headers=headers).status == 200
    assert session.request("ping").status == 404


@requirement("2025-11-25/logging/set-level")
def test_a_log_level_is_checked_and_kept(gateway: GatewayDriver, desk: str, key: str) -> None:
    session = gateway.session(desk, "2025-06-18", key=key)
    assert session.request("logging/setLevel", {"level": "debug"}).result == {}
    assert session.request("logging/setLevel", {"level": "loud"}).error["code"] == -32602


@requirement("2026-07-28/pagination/cursor", "2026-07-28/pagination/bad-cursor")
def test_lists_page_with_cursors_that_stay_in_their_version(
    gateway: GatewayDriver, world: World, key: str
) -> None:
    tools = [
        {"name": f"t{n:03}", "input_schema": {"type": "object"}, "static": {"kind": "echo"}}
        for n in range(250)
    ]
    at = published(world, gateway, MANIFEST | {"tools": tools})
    first = gateway.modern(at, "tools/list", key=key).result
    with tenant_scope(world.acme.id):
        row = Server.objects.filter(slug="desk")[0]
        services.replace_draft(row, MANIFEST, actor=world.actor)
        services.publish(row, actor=world.actor)
    gateway.settle()
    names = [tool["name"] for tool in first["tools"]]
    cursor = first["nextCursor"]
    while cursor:
        page = gateway.modern(at, "tools/list", {"cursor": cursor}, key=key).result
        names += [tool["name"] for tool in page["tools"]]
        cursor = page.get("nextCursor")
    assert names == [tool["name"] for tool in tools]
    for bad in ("", "x", first["nextCursor"][:-6] + "AAAAA=", 7):
        assert gateway.modern(at, "tools/list", {"cursor": bad}, key=key).error["code"] == -32602
    wrong_list = gateway.modern(at, "prompts/list", {"cursor": first["nextCursor"]}, key=key)
    assert wrong_list.error["code"] == -32602


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


def test_a_cursor_of_the_draft_does_not_open_it_elsewhere(
    gateway: GatewayDriver, desk: str, world: World, key: str, key_of: Callable[..., str]
) -> None:
    tools = [
        {"name": f"t{n:03}", "input_schema": {"type": "object"}, "static": {"kind": "echo"}}
        for n in range(150)
    ]
    with tenant_scope(world.acme.id):
        row = Server.objects.filter(slug="desk")[0]
        services.replace_draft(row, MANIFEST | {"tools": tools}, actor=world.actor)
    gateway.settle()
    tester = key_of(world.acme, scopes=["servers:call", "servers:test"])
    cursor = gateway.modern(f"{desk}@draft", "tools/list", key=tester).result["nextCursor"]
    assert gateway.modern(f"{desk}@draft", "tools/list", {"cursor": cursor}, key=tester).status == 200
    assert gateway.modern(desk, "tools/list", {"cursor": cursor}, key=key).error["code"] == -32602


def test_names_that_do_not_exist_displace_nothing(gateway: GatewayDriver, world: World) -> None:
    at = published(world, gateway, MANIFEST, is_public=True)
    assert gateway.modern(at, "tools/list").status == 200
    (endpoint,) = [
        e for e in gateway.app.plane.directory.endpoints._kept.values() if e.facts.tenant == world.acme.id
    ]
    live = endpoint.snapshots.peek("live")
    for number in range(70):
        assert gateway.modern(f"{at}@none{number}", "tools/list").status in {404, 429}
    assert endpoint.snapshots.peek("live") is live
