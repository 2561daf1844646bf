"""Who is let in, and what the others are told: RFC 6750 challenges and RFC 9728 metadata."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mooring.scope import tenant_scope
from tenants.services import create_key, revoke_key
from tests.conftest import World
from tests.protocol.conftest import Peer
from tests.protocol.requirements import requirement
from tests.servers.conftest import GatewayDriver, Reply

WELL_KNOWN = "/.well-known/oauth-protected-resource"


def metadata(gateway: GatewayDriver, at: str) -> Reply:
    return gateway.send(f"{WELL_KNOWN}/t/{at}/mcp", verb="GET", headers={"accept": "application/json"})


@requirement("2026-07-28/authorization/metadata")
@pytest.mark.parametrize("form", ["", "@live", "@1.0.0"])
def test_each_endpoint_has_metadata_that_names_it_exactly(
    gateway: GatewayDriver, desk: str, form: str
) -> None:
    found = metadata(gateway, desk + form)
    assert (found.status, found.headers["content-type"]) == (200, "application/json")
    assert found.json["resource"] == f"http://testserver/t/{desk}{form}/mcp"
    assert found.json["bearer_methods_supported"] == ["header"]


@requirement("2026-07-28/authorization/challenge")
def test_the_challenge_names_the_metadata_of_the_endpoint(gateway: GatewayDriver, desk: str) -> None:
    for reply in (gateway.modern(desk, "tools/list"), gateway.legacy(desk, "tools/list")):
        assert reply.status == 401
        url = f"http://testserver{WELL_KNOWN}/t/{desk}/mcp"
        assert reply.headers["www-authenticate"] == f'Bearer resource_metadata="{url}"'


@requirement("2026-07-28/authorization/bad-token")
@pytest.mark.parametrize("state", ["malformed", "unknown", "revoked", "expired"])
def test_a_token_that_is_not_good_is_unauthorized(
    peer: Peer, world: World, gateway: GatewayDriver, state: str
) -> None:
    peer_key = peer.key
    peer.key = bad_key(world, state)
    gateway.settle()
    reply = (
        peer.ask("tools/list") if peer.session is None else peer.session.request("tools/list", key=peer.key)
    )
    assert reply.status == 401
    assert 'error="invalid_token"' in reply.headers["www-authenticate"]
    assert peer_key != peer.key


def bad_key(world: World, state: str) -> str:
    if state == "malformed":
        return "moor_short"
    if state == "unknown":
        return "moor_" + "a" * 38
    with tenant_scope(world.acme.id):
        lifetime = timedelta(microseconds=1) if state == "expired" else None
        issued = create_key(world.acme, name="bad", user=world.alice, actor=world.actor, lifetime=lifetime)
        if state == "revoked":
            revoke_key(issued.row, actor=world.actor)
    return issued.secret


@requirement("2026-07-28/authorization/header-only")
def test_a_token_in_the_url_opens_nothing(gateway: GatewayDriver, desk: str, key: str) -> None:
    for name in ("access_token", "key", "token"):
        assert with_query(gateway, desk, f"{name}={key}") == 401
    assert gateway.modern(desk, "tools/list", headers={"authorization": f"Basic {key}"}).status == 401


def with_query(gateway: GatewayDriver, at: str, query: str) -> int:
    """The status of a request whose URL has a query."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/t/{at}/mcp",
        "query_string": query.encode(),
        "headers": [(b"host", b"testserver"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    gateway.run(gateway.app(scope, receive, send))
    return int(sent[0]["status"])


@requirement("2026-07-28/authorization/header-only")
def test_every_request_needs_it_whatever_came_before(older: Peer) -> None:
    assert older.ask("tools/list").status == 200
    assert older.ask("tools/list", key="").status == 401


@requirement("2026-07-28/authorization/for-this-server")
def test_a_token_for_another_server_or_organisation_opens_nothing(
    desk: str, world: World, gateway: GatewayDriver, key_of: Callable[..., str], publish: Callable[..., str]
) -> None:
    from servers.models import Server  # models are there once Django is set up

    other = publish("other")
    with tenant_scope(world.acme.id):
        number = str(Server.objects.get(slug=other.split("/")[1]).id)
    limited = key_of(world.acme, servers=[number])
    assert gateway.modern(desk, "tools/list", key=limited).status == 404
    assert gateway.modern(desk, "tools/list", key=key_of(world.globex)).status == 404
    assert gateway.modern(other, "tools/list", key=limited).status == 200
