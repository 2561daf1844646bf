"""Who may call what: without a credential, with a bad one, with one for something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mooring.scope import tenant_scope
from servers import services
from servers.models import Server
from tenants.services import create_key, revoke_key
from tests.conftest import World
from tests.protocol.requirements import requirement
from tests.servers.conftest import GatewayDriver, Reply
from tests.servers.gateway.desk import MANIFEST, published


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
