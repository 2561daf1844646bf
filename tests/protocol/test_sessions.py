"""The handshake revisions: initialize, and the session it opens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import World
from tests.protocol.conftest import Peer
from tests.protocol.requirements import HANDSHAKE, requirement
from tests.servers.conftest import GatewayDriver, Reply

HELLO: dict[str, Any] = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "probe", "version": "1"},
}


def hello(gateway: GatewayDriver, at: str, key: str, **params: Any) -> Reply:
    return gateway.legacy(at, "initialize", HELLO | params, key=key)


@requirement("2025-11-25/lifecycle/initialize", "2025-11-25/lifecycle/same-version")
@pytest.mark.parametrize("revision", HANDSHAKE)
def test_initialize_is_answered_with_the_same_revision_and_what_the_server_is(
    gateway: GatewayDriver, desk: str, key: str, revision: str
) -> None:
    result = hello(gateway, desk, key, protocolVersion=revision).result
    assert result["protocolVersion"] == revision
    assert {"tools", "resources", "prompts", "completions", "logging"} <= set(result["capabilities"])
    assert set(result["serverInfo"]) >= {"name", "version"}
    assert result["instructions"] == "Be kind."


@requirement("2025-11-25/lifecycle/other-version")
@pytest.mark.parametrize("asked", ["2026-07-28", "2024-11-05", "1999-01-01", ""])
def test_an_unspoken_revision_is_answered_with_the_newest_that_has_a_handshake(
    gateway: GatewayDriver, desk: str, key: str, asked: str
) -> None:
    assert hello(gateway, desk, key, protocolVersion=asked).result["protocolVersion"] == "2025-11-25"


@requirement("2025-11-25/lifecycle/malformed")
@pytest.mark.parametrize(
    "params", [{"protocolVersion": 7}, {"capabilities": None}, {"clientInfo": "probe"}, {"capabilities": []}]
)
def test_a_malformed_initialize_opens_nothing(
    gateway: GatewayDriver, desk: str, key: str, params: dict[str, Any]
) -> None:
    reply = hello(gateway, desk, key, **params)
    assert reply.error["code"] == -32602
    assert "mcp-session-id" not in reply.headers


@requirement("2025-11-25/lifecycle/initialized")
def test_the_clients_initialized_is_accepted(older: Peer) -> None:
    reply = older.ask("notifications/initialized", identifier=None)
    assert (reply.status, reply.body) == (202, b"")


@requirement("2025-11-25/sessions/id")
def test_a_sessions_id_is_visible_ascii_and_never_the_same(
    gateway: GatewayDriver, desk: str, key: str
) -> None:
    ids = [hello(gateway, desk, key).headers["mcp-session-id"] for _ in range(20)]
    assert len(set(ids)) == 20
    assert all("!" <= letter <= "~" for each in ids for letter in each)
    assert min(map(len, ids)) >= 32


@requirement("2025-11-25/sessions/required")
def test_a_request_without_its_session_is_malformed(older: Peer) -> None:
    assert older.ask("tools/list", session="").status == 400


@requirement("2025-11-25/sessions/unknown", "2025-11-25/sessions/end")
def test_a_session_ends_by_delete_and_is_unknown_from_then_on(older: Peer) -> None:
    assert older.ask("tools/list", session="nonsense").status == 404
    assert older.session is not None
    headers = {"authorization": f"Bearer {older.key}", "mcp-session-id": older.session.token}
    ended = older.gateway.send(f"/t/{older.at}/mcp", verb="DELETE", headers=headers)
    assert ended.status in {200, 202, 204}
    assert older.ask("tools/list").status == 404


@requirement("2025-11-25/sessions/no-credential")
def test_a_session_is_worth_nothing_without_or_with_another_credential(
    older: Peer, world: World, key_of: Callable[..., str]
) -> None:
    assert older.ask("tools/list", key="").status == 401
    assert older.ask("tools/list", key=key_of(world.acme, user=world.dora)).status == 404


@requirement("2025-11-25/transport/version-header")
@pytest.mark.parametrize("revision", ["2025-06-18", "2025-11-25"])
def test_a_later_request_names_the_sessions_revision_or_none(
    desk: str, peer_of: Callable[..., Peer], revision: str
) -> None:
    peer = peer_of(desk, revision)
    assert peer.ask("tools/list", headers={"mcp-protocol-version": ""}).status == 200
    for other in ("1999-01-01", "nonsense"):
        assert peer.ask("tools/list", headers={"mcp-protocol-version": other}).status == 400


@requirement("2025-11-25/transport/unknown-method")
def test_a_method_that_is_not_there_is_an_error_like_any_other(older: Peer) -> None:
    reply = older.ask("tools/destroy")
    assert (reply.status, reply.error["code"]) == (200, -32601)


@requirement("2025-11-25/transport/get")
def test_get_opens_a_stream_or_is_not_allowed(older: Peer) -> None:
    assert older.session is not None
    headers = {
        "authorization": f"Bearer {older.key}",
        "mcp-session-id": older.session.token,
        "accept": "text/event-stream",
    }
    reply = older.gateway.send(f"/t/{older.at}/mcp", verb="GET", headers=headers)
    assert reply.status == 405 or reply.headers["content-type"] == "text/event-stream"


@requirement("2025-11-25/ping/empty")
def test_ping_is_answered_with_nothing(older: Peer) -> None:
    assert older.result("ping") == {}


@requirement("2025-11-25/logging/set-level")
def test_a_log_level_is_one_of_eight(older: Peer) -> None:
    for level in ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"):
        assert older.result("logging/setLevel", {"level": level}) == {}
    for level in ("loud", "", 7, None):
        assert older.error("logging/setLevel", {"level": level}) == -32602
