"""The whole way of a call: what is answered, in which revision's words."""

from __future__ import annotations

from typing import Any

import pytest

from mooring.scope import tenant_scope
from servers import services
from servers.models import Server
from tests.conftest import World
from tests.protocol.requirements import requirement
from tests.servers.conftest import META, MODERN, GatewayDriver
from tests.servers.gateway.desk import HANDSHAKES, MANIFEST, published


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
