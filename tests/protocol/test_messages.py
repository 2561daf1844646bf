"""JSON-RPC as every revision has it: ids, results, errors, notifications."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.protocol.conftest import Peer
from tests.protocol.requirements import HANDSHAKE, MODERN, requirement
from tests.servers.conftest import META, GatewayDriver

PING = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


@requirement("2026-07-28/messages/request-id")
@pytest.mark.parametrize("identifier", [None, 1.5, True, [1], {}])
def test_an_id_that_is_neither_text_nor_a_whole_number_is_refused(peer: Peer, identifier: object) -> None:
    reply = peer.post(json.dumps(PING | {"id": identifier}).encode())
    assert reply.status == 400
    assert b'"id":null' not in reply.body


@requirement("2026-07-28/messages/result-id")
@pytest.mark.parametrize("identifier", [0, 7, -3, 2**53, "7", "a b", ""])
def test_a_result_carries_the_id_of_its_request_with_its_type(peer: Peer, identifier: int | str) -> None:
    reply = peer.ask("tools/list", identifier=identifier)
    assert reply.status == 200
    assert reply.json["id"] == identifier
    assert type(reply.json["id"]) is type(identifier)
    assert reply.json["jsonrpc"] == "2.0"


@requirement("2026-07-28/messages/error-id", "2026-07-28/messages/error-object")
@pytest.mark.parametrize("identifier", [7, "7"])
def test_an_error_carries_the_id_of_its_request_a_code_and_a_message(
    peer: Peer, identifier: int | str
) -> None:
    body = peer.ask("no/such", identifier=identifier).json
    assert body["id"] == identifier
    assert type(body["error"]["code"]) is int
    assert body["error"]["message"]
    assert "result" not in body


@requirement("2026-07-28/messages/result-type")
def test_a_result_says_that_it_is_complete(modern: Peer) -> None:
    for method, params in (("server/discover", {}), ("tools/call", {"name": "echo"}), ("prompts/list", {})):
        assert modern.result(method, params)["resultType"] == "complete"


@requirement("2025-11-25/messages/no-result-type")
def test_a_result_of_a_handshake_revision_has_nothing_of_the_newest(older: Peer) -> None:
    for method, params in (("tools/call", {"name": "echo"}), ("tools/list", {}), ("prompts/list", {})):
        assert not {"resultType", "ttlMs", "cacheScope", "_meta"} & set(older.result(method, params))


@requirement("2026-07-28/messages/own-error-codes")
def test_a_refusal_of_our_own_has_its_http_status_as_its_code(peer: Peer) -> None:
    peer.key = "moor_nonsense"
    if peer.session is not None:
        peer.session = None
        reply = peer.gateway.legacy(peer.at, "tools/list", key=peer.key)
        assert (reply.status, reply.headers["content-type"]) == (401, "text/plain; charset=utf-8")
        return
    reply = peer.ask("tools/list")
    assert (reply.status, reply.error["code"]) == (401, 401)


@requirement("2026-07-28/messages/retired-error-codes")
def test_the_newest_revision_never_says_minus_32002(modern: Peer) -> None:
    assert modern.ask("resources/read", {"uri": "desk://none"}).error["code"] == -32602


@requirement("2026-07-28/messages/notification")
@pytest.mark.parametrize("method", ["notifications/cancelled", "notifications/of-nobody"])
def test_a_notification_is_accepted_and_not_answered(peer: Peer, method: str) -> None:
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": {"requestId": 1}}).encode()
    reply = peer.post(body, **{"mcp-method": method})
    assert (reply.status, reply.body) == (202, b"")


@requirement("2026-07-28/messages/one-message")
@pytest.mark.parametrize("revision", ["2025-06-18", "2025-11-25", MODERN])
def test_an_array_of_messages_is_refused(desk: str, peer_of: Callable[..., Peer], revision: str) -> None:
    peer = peer_of(desk, revision)
    for batch in ([], [PING], [PING, PING | {"id": 2}]):
        reply = peer.post(json.dumps(batch).encode())
        assert reply.status == 400
        if reply.headers["content-type"] == "application/json":
            assert reply.error["code"] == -32600


@requirement("2025-03-26/messages/batch")
def test_an_array_of_requests_is_answered_with_an_array(desk: str, peer_of: Callable[..., Peer]) -> None:
    reply = peer_of(desk, "2025-03-26").post(json.dumps([PING, PING | {"id": "two"}]).encode())
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert [(answer["id"], bool(answer["result"]["tools"])) for answer in reply.json] == [
        (1, True),
        ("two", True),
    ]


@requirement("2025-03-26/messages/batch-of-notifications")
def test_an_array_of_notifications_is_accepted(desk: str, peer_of: Callable[..., Peer]) -> None:
    notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}}
    reply = peer_of(desk, "2025-03-26").post(json.dumps([notice]).encode())
    assert (reply.status, reply.body) == (202, b"")


@requirement("2025-03-26/messages/no-initialize-in-batch")
def test_initialize_in_an_array_is_refused(desk: str, peer_of: Callable[..., Peer]) -> None:
    opening = {"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": {}}
    assert peer_of(desk, "2025-03-26").post(json.dumps([PING, opening]).encode()).status == 400


@requirement("2026-07-28/messages/no-responses")
def test_a_response_from_a_client_is_refused(modern: Peer) -> None:
    for answer in ({"result": {}}, {"error": {"code": 1, "message": "no"}}):
        reply = modern.post(json.dumps({"jsonrpc": "2.0", "id": 1} | answer).encode())
        assert (reply.status, reply.error["code"]) == (400, -32600)


@requirement("2026-07-28/messages/unreadable")
def test_what_is_no_json_is_refused_and_said_to_be_so(peer: Peer) -> None:
    for body in (b"", b"{", b"\xff\xfe", b"NaN,"):
        reply = peer.post(body)
        assert reply.status == 400
        if peer.revision in {"2025-11-25", MODERN}:
            assert reply.error["code"] == -32700
            assert "id" not in reply.json
        else:
            assert reply.headers["content-type"].startswith("text/plain"), (
                "their schema has no error without id"
            )


@requirement("2026-07-28/versioning/two-eras")
@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel", "resources/subscribe"])
def test_what_the_newest_revision_has_removed_does_not_exist_in_it(modern: Peer, method: str) -> None:
    reply = modern.ask(method, {"level": "info", "uri": "desk://rules"})
    assert (reply.status, reply.error["code"]) == (404, -32601)


@requirement("2026-07-28/versioning/two-eras")
def test_one_url_serves_both_eras_at_once(gateway: GatewayDriver, desk: str, key: str) -> None:
    sessions = [gateway.session(desk, revision, key=key) for revision in HANDSHAKE]
    assert gateway.modern(desk, "tools/list", key=key).status == 200
    assert {session.request("tools/list").status for session in sessions} == {200}


@requirement("2026-07-28/versioning/discover")
def test_discover_names_the_revisions_newest_first_and_the_capabilities(modern: Peer) -> None:
    found = modern.result("server/discover")
    assert found["supportedVersions"] == sorted((*HANDSHAKE, MODERN), reverse=True)
    assert {"tools", "resources", "prompts", "completions"} <= set(found["capabilities"])


@requirement("2026-07-28/versioning/unsupported")
@pytest.mark.parametrize("asked", ["v999", "2027-01-01", "2025-06-18"])
def test_a_revision_that_is_not_spoken_is_refused_with_those_that_are(modern: Peer, asked: str) -> None:
    meta = {META + "protocolVersion": asked, META + "clientCapabilities": {}}
    reply = modern.ask("tools/list", meta=meta, headers={"mcp-protocol-version": asked})
    assert (reply.status, reply.error["code"]) == (400, -32022)
    assert reply.error["data"] == {"supported": [MODERN], "requested": asked}


@requirement("2026-07-28/meta/required")
@pytest.mark.parametrize("missing", ["protocolVersion", "clientCapabilities"])
def test_a_request_without_what_meta_must_hold_is_malformed(modern: Peer, missing: str) -> None:
    meta = {META + "protocolVersion": MODERN, META + "clientCapabilities": {}}
    del meta[META + missing]
    reply = modern.ask("tools/list", meta=meta)
    assert (reply.status, reply.error["code"]) == (400, -32602)


@requirement("2026-07-28/meta/client-info", "2026-07-28/meta/server-info")
def test_the_client_may_say_who_it_is_and_the_server_does(modern: Peer) -> None:
    meta = {META + "protocolVersion": MODERN, META + "clientCapabilities": {}}
    silent = modern.ask("tools/list", meta=meta).result
    info = {META + "clientInfo": {"name": "probe", "version": "0.1"}}
    assert modern.ask("tools/list", meta=meta | info).result == silent
    assert set(silent["_meta"][META + "serverInfo"]) >= {"name", "version"}


@requirement("2026-07-28/statelessness/no-earlier-request", "2026-07-28/statelessness/no-session")
def test_a_request_of_the_newest_revision_stands_for_itself(modern: Peer, gateway: GatewayDriver) -> None:
    reply = modern.ask("tools/list", headers={"mcp-session-id": "nonsense", "last-event-id": "7"})
    assert reply.status == 200
    assert "mcp-session-id" not in reply.headers
    session = gateway.session(modern.at, "2025-11-25", key=modern.key)
    again = modern.ask("tools/list", headers={"mcp-session-id": session.token})
    assert again.result == reply.result
