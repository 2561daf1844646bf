"""Bodies of requests, as an origin receives them."""

from __future__ import annotations

import base64
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

import pytest

from servers.runtimes.base import Outcome

if TYPE_CHECKING:
    from tests.servers.runtimes.conftest import Caller, Origin

PNG = b"\x89PNG\r\n\x1a\n\x00\xff"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_is_sent_as_it_is(call: Caller, origin: Origin, method: str) -> None:
    outcome = await call({"method": method})
    assert outcome == Outcome([{"type": "text", "text": '{"ok":true}'}], {"ok": True})
    assert origin.last.method == method
    assert "Content-Type" not in origin.last.headers
    assert origin.last.headers["User-Agent"] == "Mooring"


@pytest.mark.parametrize(
    ("body", "arguments", "sent"),
    [
        ({"argument": "data"}, {"data": {"a": [1, None]}}, b'{"a":[1,null]}'),
        ({"argument": "data"}, {"data": None}, b"null"),
        ({"argument": "data"}, {}, b""),
        ({"fields": {"wire": "name", "other": "absent"}}, {"name": "é"}, '{"wire":"é"}'.encode()),
        ({"fields": {"wire": "name"}}, {}, b""),
        ({"fields": {"wire": "name"}, "required": True}, {}, b"{}"),
        (
            {"content_type": "application/vnd.api+json", "argument": "data"},
            {"data": "x"},
            b'"x"',
        ),
        (
            {"content_type": "application/x-www-form-urlencoded", "fields": {"a[]": "list", "b": "text"}},
            {"list": ["1 2", True], "text": "x&y=z+é"},
            b"a%5B%5D=1+2&a%5B%5D=true&b=x%26y%3Dz%2B%C3%A9",
        ),
        (
            {"content_type": "application/x-www-form-urlencoded", "argument": "data"},
            {"data": {"o": {"deep": 1}, "n": None}},
            b"o=%7B%22deep%22%3A1%7D",
        ),
        (
            {"content_type": "text/plain; charset=utf-8", "argument": "data"},
            {"data": "é\r\n"},
            "é\r\n".encode(),
        ),
        (
            {"content_type": "application/octet-stream", "argument": "d", "binary": True},
            {"d": "AP8="},
            b"\x00\xff",
        ),
    ],
)
async def test_bodies(
    call: Caller, origin: Origin, body: dict[str, Any], arguments: dict[str, Any], sent: bytes
) -> None:
    outcome = await call({"method": "POST", "body": body}, **arguments)
    assert not outcome.is_error
    assert origin.last.body == sent
    expected = body.get("content_type", "application/json") if sent else None
    assert origin.last.headers.get("Content-Type") == expected


async def test_a_multipart_body_is_read_as_what_was_given(call: Caller, origin: Origin) -> None:
    tricky = '--boundary\r\nContent-Disposition: form-data; name="admin"\r\n\r\n1'
    body = {
        "content_type": "multipart/form-data",
        "fields": {"title": "title", 'na"me\r\n': "odd", "tags": "tags", "file": "file", "meta": "meta"},
        "binary": ["file"],
    }
    outcome = await call(
        {"method": "POST", "body": body},
        title=tricky,
        odd="x",
        tags=["a", "b"],
        file=base64.b64encode(PNG).decode(),
        meta={"a": 1},
    )
    assert not outcome.is_error
    head = f"Content-Type: {origin.last.headers['Content-Type']}\r\n\r\n".encode()
    parts = [
        (
            part.get_param("name", header="Content-Disposition"),
            part.get_content_type(),
            part.get_payload(decode=True),
        )
        for part in message_from_bytes(head + origin.last.body).walk()
        if not part.is_multipart()
    ]
    assert parts == [
        ("title", "text/plain", tricky.encode()),
        ("na%22me%0D%0A", "text/plain", b"x"),
        ("tags", "text/plain", b"a"),
        ("tags", "text/plain", b"b"),
        ("file", "application/octet-stream", PNG),
        ("meta", "application/json", b'{"a":1}'),
    ]


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ({"argument": "data", "required": True}, {}),
        ({"content_type": "application/x-www-form-urlencoded", "argument": "data"}, {"data": [1]}),
        ({"content_type": "multipart/form-data", "fields": {"f": "f"}, "binary": ["f"]}, {"f": "no base64!"}),
        ({"content_type": "image/png", "argument": "f", "binary": True}, {"f": 5}),
    ],
)
async def test_an_unfit_body_is_refused(
    call: Caller, origin: Origin, body: dict[str, Any], arguments: dict[str, Any]
) -> None:
    outcome = await call({"method": "POST", "body": body}, **arguments)
    assert outcome.failure == "argument_refused"
    assert origin.received == []


async def test_a_constant_content_type_wins(call: Caller, origin: Origin) -> None:
    constant = {"in": "header", "name": "content-type", "value": "application/merge-patch+json"}
    await call({"method": "PATCH", "constants": [constant], "body": {"argument": "d"}}, d={})
    assert origin.last.headers.getall("Content-Type") == ["application/merge-patch+json"]  # type: ignore[attr-defined]
