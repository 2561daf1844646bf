"""Real answers against the official schema of their revision, where the schemas lie beside the checkout.

They are somebody else's work and no part of this repository: any sibling folder with `spec/schema-<revision>.json`
will do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests.protocol.conftest import Peer
from tests.protocol.requirements import HANDSHAKE, MODERN
from tests.servers.conftest import Reply

BESIDE = Path(__file__).parents[3]
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "ListToolsResult": ("tools/list", {}),
    "CallToolResult": ("tools/call", {"name": "echo", "arguments": {"text": "hi"}}),
    "ListResourcesResult": ("resources/list", {}),
    "ListResourceTemplatesResult": ("resources/templates/list", {}),
    "ReadResourceResult": ("resources/read", {"uri": "desk://dot"}),
    "ListPromptsResult": ("prompts/list", {}),
    "GetPromptResult": ("prompts/get", {"name": "review", "arguments": {"topic": "x"}}),
    "CompleteResult": (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "review"}, "argument": {"name": "topic", "value": "w"}},
    ),
}
OF_SESSIONS: dict[str, tuple[str, dict[str, Any]]] = {"EmptyResult": ("ping", {})}
OF_MODERN: dict[str, tuple[str, dict[str, Any]]] = {"DiscoverResult": ("server/discover", {})}
# Each revision's name of the whole message.
RESPONSE = {"2025-11-25": "JSONRPCResultResponse", MODERN: "JSONRPCResultResponse"}
ERROR = {"2025-11-25": "JSONRPCErrorResponse", MODERN: "JSONRPCErrorResponse"}


@pytest.fixture(scope="module")
def official() -> Callable[[str, str, Any], list[str]]:
    """`official(revision, definition, value)` gives the problems."""
    kept: dict[tuple[str, str], jsonschema_rs.Validator] = {}

    def problems(revision: str, definition: str, value: Any) -> list[str]:
        if (revision, definition) not in kept:
            kept[revision, definition] = _validator(revision, definition)
        return [
            f"{definition}{error.instance_path}: {error.message}"
            for error in kept[revision, definition].iter_errors(value)
        ]

    return problems


def _validator(revision: str, definition: str) -> jsonschema_rs.Validator:
    found = sorted(BESIDE.glob(f"*/spec/schema-{revision}.json"))
    if not found:
        pytest.skip(f"The official schema of {revision} does not lie beside this checkout.")
    schema = json.loads(found[0].read_text())
    group = "$defs" if "$defs" in schema else "definitions"
    assert definition in schema[group], definition
    whole = {"$schema": schema["$schema"], group: schema[group], "$ref": f"#/{group}/{definition}"}
    return jsonschema_rs.validator_for(whole)


def _message(peer: Peer, reply: Reply, official: Callable[..., list[str]]) -> list[str]:
    body = reply.json
    names = ERROR if "error" in body else RESPONSE
    older = "JSONRPCError" if "error" in body else "JSONRPCResponse"
    return official(peer.revision, names.get(peer.revision, older), body)


def test_every_result_is_what_the_schema_of_its_revision_says(
    peer: Peer, official: Callable[..., list[str]]
) -> None:
    more = OF_MODERN if peer.revision == MODERN else OF_SESSIONS
    for definition, (method, params) in (ASKED | more).items():
        reply = peer.ask(method, params)
        assert _message(peer, reply, official) == []
        assert official(peer.revision, definition, reply.result) == []


def test_the_answer_to_initialize_is_what_the_schema_says(
    older: Peer, official: Callable[..., list[str]]
) -> None:
    assert older.session is not None
    assert official(older.revision, "InitializeResult", older.session.opened) == []


def test_a_tools_error_is_a_result(peer: Peer, official: Callable[..., list[str]]) -> None:
    reply = peer.ask("tools/call", {"name": "echo", "arguments": {"text": 5}})
    assert reply.result["isError"] is True
    assert official(peer.revision, "CallToolResult", reply.result) == []


def test_wrapped_and_plain_lists_are_results(
    pets: str, peer_of: Callable[..., Peer], official: Callable[..., list[str]]
) -> None:
    for revision in (*HANDSHAKE, MODERN):
        peer = peer_of(pets, revision)
        assert official(revision, "CallToolResult", peer.result("tools/call", {"name": "pets"})) == []
        assert official(revision, "ListToolsResult", peer.result("tools/list")) == []


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("no/such", {}),
        ("tools/call", {"name": "nope"}),
        ("resources/read", {"uri": "desk://none"}),
        ("tools/list", {"cursor": "x"}),
    ],
)
def test_every_error_is_what_the_schema_of_its_revision_says(
    peer: Peer, official: Callable[..., list[str]], method: str, params: dict[str, Any]
) -> None:
    reply = peer.ask(method, params)
    assert "error" in reply.json
    assert _message(peer, reply, official) == []


def test_the_newest_revisions_own_errors_are_what_its_schema_says(
    modern: Peer, official: Callable[..., list[str]]
) -> None:
    mismatch = modern.ask("tools/list", headers={"mcp-method": "other"})
    assert official(MODERN, "HeaderMismatchError", mismatch.json) == []
    missing = modern.ask("no/such")
    assert official(MODERN, "MethodNotFoundError", missing.json["error"]) == []
    unreadable = modern.post(b"{")
    assert official(MODERN, "ParseError", unreadable.json["error"]) == []
