"""Streamable HTTP: what may be sent where, and the headers that repeat the body."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.protocol.conftest import Peer
from tests.protocol.requirements import MODERN, requirement
from tests.servers.conftest import META, Reply


@requirement("2026-07-28/transport/one-endpoint", "2026-07-28/transport/answer-media")
def test_one_url_takes_everything_by_post_and_answers_in_an_accepted_form(peer: Peer) -> None:
    for method, params in (("tools/list", {}), ("tools/call", {"name": "echo"}), ("prompts/list", {})):
        reply = peer.ask(method, params)
        assert reply.status == 200
        assert reply.headers["content-type"] in {"application/json", "text/event-stream"}


@requirement("2026-07-28/transport/origin")
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver.evil.example"])
def test_a_foreign_origin_is_forbidden(peer: Peer, origin: str) -> None:
    assert peer.ask("tools/list", headers={"origin": origin}).status == 403
    assert peer.ask("tools/list", headers={"origin": "http://testserver"}).status == 200


@requirement("2026-07-28/transport/unknown-method")
def test_a_method_that_is_not_there_is_not_found(modern: Peer) -> None:
    reply = modern.ask("tools/destroy")
    assert (reply.status, reply.error["code"]) == (404, -32601)


def refused(reply: Reply) -> bool:
    assert reply.json["id"] == 1
    return (reply.status, reply.error["code"]) == (400, -32020)


@requirement("2026-07-28/transport/version-header", "2026-07-28/transport/header-mismatch")
@pytest.mark.parametrize("version", ["", "2025-11-25", "v999"])
def test_the_version_header_repeats_the_bodys_revision(modern: Peer, version: str) -> None:
    assert refused(modern.ask("tools/list", headers={"mcp-protocol-version": version}))
    meta = {META + "protocolVersion": "v999", META + "clientCapabilities": {}}
    assert refused(modern.ask("tools/list", meta=meta, headers={"mcp-protocol-version": MODERN}))


@requirement("2026-07-28/transport/method-header", "2026-07-28/transport/case")
@pytest.mark.parametrize("method", ["", "tools/call", "TOOLS/LIST", "tools/list "])
def test_the_method_header_repeats_the_bodys_method(modern: Peer, method: str) -> None:
    reply = modern.ask("tools/list", headers={"mcp-method": method})
    # White space around a value is no part of it (RFC 9110 5.5).
    assert reply.status == 200 if method.strip() == "tools/list" else refused(reply)


@requirement("2026-07-28/transport/case")
def test_names_of_headers_have_no_case(modern: Peer) -> None:
    headers = {"Mcp-Method": "tools/list", "MCP-PROTOCOL-VERSION": MODERN}
    assert modern.ask("tools/list", headers=headers).status == 200


NAMED: list[tuple[str, dict[str, Any], str]] = [
    ("tools/call", {"name": "echo"}, "echo"),
    ("prompts/get", {"name": "review", "arguments": {"topic": "x"}}, "review"),
    ("resources/read", {"uri": "desk://rules"}, "desk://rules"),
]


@requirement("2026-07-28/transport/name-header")
@pytest.mark.parametrize(("method", "params", "name"), NAMED)
def test_the_name_header_repeats_what_the_body_names(
    modern: Peer, method: str, params: dict[str, Any], name: str
) -> None:
    for wrong in ("", "other", name.upper()):
        assert refused(modern.ask(method, params, headers={"mcp-name": wrong})), wrong
    assert modern.ask(method, params, headers={"mcp-name": name}).status == 200


def marked(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


@requirement("2026-07-28/transport/encoded-values")
@pytest.mark.parametrize(("method", "params", "name"), NAMED)
def test_a_name_may_come_in_base64(modern: Peer, method: str, params: dict[str, Any], name: str) -> None:
    assert modern.ask(method, params, headers={"mcp-name": marked(name)}).status == 200
    for broken in (marked(name)[:-3] + "!?=", marked("other"), "=?base64?/w==?="):
        assert refused(modern.ask(method, params, headers={"mcp-name": broken})), broken


@requirement("2026-07-28/transport/exact-markers")
def test_half_a_marker_is_part_of_the_value(modern: Peer) -> None:
    for literal in ("=?base64?abc", "abc?=", "=?BASE64?QW5u?="):
        reply = modern.ask(
            "tools/call",
            {"name": "mirror", "arguments": {"name": literal}},
            headers={"mcp-param-name": literal},
        )
        assert reply.result["structuredContent"] == {"name": literal}


def mirrored(peer: Peer, arguments: dict[str, Any], **headers: str) -> Reply:
    sent = {f"mcp-param-{name}": value for name, value in headers.items()}
    return peer.ask("tools/call", {"name": "mirror", "arguments": arguments}, headers=sent)


@requirement("2026-07-28/transport/parameter-headers")
def test_a_mirrored_argument_and_its_header_are_equal_and_both_there(modern: Peer) -> None:
    assert mirrored(modern, {"name": "Zoë"}, name=marked("Zoë")).status == 200
    for headers in ({}, {"name": "ann"}, {"name": marked("Bob")}):
        assert refused(mirrored(modern, {"name": "Ann"}, **headers)), headers
    assert refused(mirrored(modern, {}, name="Ann"))


@requirement("2026-07-28/transport/absent-parameters")
def test_an_argument_that_is_not_given_has_no_header(modern: Peer) -> None:
    assert mirrored(modern, {}).status == 200
    nothing = mirrored(modern, {"name": None})
    assert nothing.status == 200, "null is none; whether the schema takes it is another question"


@requirement("2026-07-28/transport/unknown-parameter-headers")
def test_a_parameter_header_that_no_tool_asked_for_is_ignored(modern: Peer) -> None:
    assert mirrored(modern, {"name": "Ann"}, name="Ann", colour="red").status == 200


@requirement("2026-07-28/transport/whole-numbers")
@pytest.mark.parametrize(("header", "fits"), [("42", True), ("42.0", True), ("43", False), ("x", False)])
def test_whole_numbers_are_compared_as_numbers(modern: Peer, header: str, fits: bool) -> None:
    reply = mirrored(modern, {"count": 42}, count=header)
    assert reply.status == 200 if fits else refused(reply)
