"""From what an origin answers to the answer of a tool."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from aiohttp import web

from servers.runtimes.base import UNSET, Outcome
from servers.runtimes.http.answers import picked
from tests.servers.runtimes.conftest import Caller, Origin, text_of

PNG = b"\x89PNG\r\n\x1a\n\x00\xff"


@pytest.mark.parametrize(
    ("body", "content_type", "text", "structured"),
    [
        (b'{ "a": [1, 2.50] }', "application/json", '{"a":[1,2.5]}', {"a": [1, 2.5]}),
        (b"[1]", "application/problem+json; charset=utf-8", "[1]", [1]),
        (b"null", "application/json", "null", None),
        (b'"text"', "text/json", '"text"', "text"),
        (b"\xef\xbb\xbf{}", "application/json", "{}", {}),
        ('"é"'.encode("latin-1"), "application/json; charset=latin-1", '"é"', "é"),
        (b"12345678901234567890123", "application/json", "12345678901234567890123", 12345678901234567890123),
        (b"not json", "application/json", "not json", UNSET),
        (b"[" * 100_000, "application/json", "[" * 100_000, UNSET),
        (b"[" * 300 + b"]" * 300, "application/json", "[" * 300 + "]" * 300, UNSET),
        (b"hello", "text/plain", "hello", UNSET),
        ("né".encode("latin-1"), "text/plain; charset=ISO-8859-1", "né", UNSET),
        (b"n\xe9", "text/plain", "n\ufffd", UNSET),
        ("né".encode(), 'text/plain; charset="no such"', "né", UNSET),
        (b"6162", "text/plain; charset=hex", "6162", UNSET),
        (b"<a/>", "application/xml", "<a/>", UNSET),
        (b"<a/>", "application/atom+xml", "<a/>", UNSET),
        (b"a: 1", "application/yaml", "a: 1", UNSET),
        (b'{"a":1}', "", '{"a":1}', {"a": 1}),
        (b"hello", "", "hello", UNSET),
    ],
)
async def test_answers_in_text(
    call: Caller, origin: Origin, body: bytes, content_type: str, text: str, structured: Any
) -> None:
    origin.answer = raw(body, content_type)
    assert await call({}) == Outcome([{"type": "text", "text": text}], structured)


def raw(body: bytes, content_type: str) -> Any:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        await response.write(body)
        return response

    return answer


@pytest.mark.parametrize(
    ("content_type", "kind", "mime"),
    [("image/png", "image", "image/png"), ("audio/ogg; codecs=opus", "audio", "audio/ogg")],
)
async def test_pictures_and_sound(
    call: Caller, origin: Origin, content_type: str, kind: str, mime: str
) -> None:
    origin.answer = raw(PNG, content_type)
    outcome = await call({})
    assert outcome.content == [{"type": kind, "data": base64.b64encode(PNG).decode(), "mimeType": mime}]
    assert outcome.structured is UNSET


@pytest.mark.parametrize(
    ("content_type", "mime"),
    [
        ("application/pdf", "application/pdf"),
        ("", "application/octet-stream"),
        ("no type", "application/octet-stream"),
    ],
)
async def test_other_bytes_are_an_embedded_resource(
    call: Caller, origin: Origin, content_type: str, mime: str
) -> None:
    origin.answer = raw(PNG, content_type)
    resource = {"uri": "answer:request-1", "mimeType": mime, "blob": base64.b64encode(PNG).decode()}
    assert (await call({})).content == [{"type": "resource", "resource": resource}]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("text", {"type": "text", "text": '{"a":1}'}), ("json", {"type": "text", "text": '{"a":1}'})],
)
async def test_a_tool_may_say_how_to_read_the_answer(
    call: Caller, origin: Origin, kind: str, expected: dict[str, str]
) -> None:
    origin.answer = raw(b'{"a":1}', "application/octet-stream")
    outcome = await call({"response": {"as": kind}})
    assert outcome.content == [expected]
    assert outcome.structured == ({"a": 1} if kind == "json" else UNSET)


async def test_an_answer_read_as_binary_is_a_resource(call: Caller, origin: Origin) -> None:
    origin.replies_json({"a": 1})
    outcome = await call({"response": {"as": "binary"}})
    assert outcome.content[0]["resource"]["mimeType"] == "application/json"


async def test_bad_json_where_json_was_asked_for_is_a_failure(call: Caller, origin: Origin) -> None:
    origin.replies("<html>", Content_Type="text/html")
    outcome = await call({"response": {"as": "json"}})
    assert (outcome.is_error, outcome.failure) == (True, "upstream_invalid")


async def test_a_part_of_the_answer_can_be_picked(call: Caller, origin: Origin) -> None:
    origin.replies_json({"data": {"items": [{"a/b": 1}, {"a/b": 2}]}})
    outcome = await call({"response": {"pick": "/data/items/1/a~1b"}})
    assert outcome == Outcome([{"type": "text", "text": "2"}], 2)
    missing = await call({"response": {"pick": "/data/none"}})
    assert (missing.is_error, missing.failure) == (True, "upstream_invalid")
    assert "/data/none" in text_of(missing)


def test_a_pointer_follows_its_standard() -> None:
    document = {"": 0, "m~n": 8, "a": ["x", {"b": None}]}
    assert picked(document, "") is document
    assert picked(document, "/") == 0
    assert picked(document, "/m~0n") == 8
    assert picked(document, "/a/0") == "x"
    assert picked(document, "/a/1/b") is None


@pytest.mark.parametrize(("status", "method"), [(204, "GET"), (200, "GET"), (200, "HEAD")])
async def test_an_empty_answer_says_so(call: Caller, origin: Origin, status: int, method: str) -> None:
    origin.replies(b"", status)
    assert await call({"method": method}) == Outcome(
        [{"type": "text", "text": f"(empty answer, status {status})"}]
    )


async def test_an_error_of_the_upstream_is_shown(call: Caller, origin: Origin) -> None:
    origin.replies('{"detail": "no \x1b[31msuch\x00 city\u202e"}', 404, Content_Type="application/json")
    outcome = await call({})
    assert (outcome.is_error, outcome.failure, outcome.structured) == (True, "upstream_status", UNSET)
    assert text_of(outcome) == (
        'The upstream answered with status 404 Not Found.\n\n{"detail": "no [31msuch city"}'
    )


@pytest.mark.parametrize(
    ("status", "named"), [(400, "400 Bad Request"), (503, "503 Service Unavailable"), (599, "599")]
)
async def test_every_error_names_its_status(call: Caller, origin: Origin, status: int, named: str) -> None:
    origin.replies(b"", status)
    assert text_of(await call({})) == f"The upstream answered with status {named}."


async def test_a_long_error_is_cut(call: Caller, origin: Origin) -> None:
    origin.replies("x" * 10_000_000, 500, Content_Type="text/plain")
    _, _, body = text_of(await call({})).partition("\n\n")
    assert len(body) == 2_000
    assert body.endswith("…")


async def test_the_bytes_of_an_error_are_not_shown(call: Caller, origin: Origin) -> None:
    origin.replies(PNG, 500, Content_Type="image/png")
    assert text_of(await call({})) == "The upstream answered with status 500 Internal Server Error."


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://other.example/path?token=abc", "other.example"),
        ("/elsewhere", "another path of the same host"),
        ("http://[broken", "an address that is none"),
    ],
)
async def test_redirects_are_not_followed(call: Caller, origin: Origin, location: str, shown: str) -> None:
    origin.replies(b"", 302, Location=location)
    outcome = await call({})
    assert (outcome.is_error, outcome.failure) == (True, "upstream_redirect")
    assert f"redirects to {shown}. Redirects are not followed" in text_of(outcome)
    assert len(origin.received) == 1
