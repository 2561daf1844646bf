"""Tools that call an HTTP API, against a real web server."""

from __future__ import annotations

import asyncio
import base64
import gzip
import html
import json
import zlib
from email import message_from_bytes
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest
from aiohttp import web

from mooring.egress.guard import Guard
from mooring.egress.session import session
from servers.runtimes.base import UNSET, Outcome, ToolCall
from servers.runtimes.http.answers import picked
from servers.runtimes.http.masking import HIDDEN, Mask
from servers.runtimes.http.tool import compile_tool
from servers.runtimes.upstreams import Upstreams

if TYPE_CHECKING:
    from tests.servers.runtimes.conftest import Caller, Origin

PNG = b"\x89PNG\r\n\x1a\n\x00\xff"


def text_of(outcome: Outcome) -> str:
    assert [block["type"] for block in outcome.content] == ["text"]
    text = outcome.content[0]["text"]
    assert isinstance(text, str)
    return text


# ---- bodies ----------------------------------------------------------------------------------------------


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


# ---- answers ---------------------------------------------------------------------------------------------


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


# ---- limits ----------------------------------------------------------------------------------------------


async def test_an_answer_over_the_limit_is_refused(call: Caller, origin: Origin) -> None:
    call.answer_bytes = 1_000
    origin.replies("x" * 1_000, Content_Type="text/plain")
    assert not (await call({})).is_error
    origin.replies("x" * 1_001, Content_Type="text/plain")
    outcome = await call({})
    assert (outcome.is_error, outcome.failure) == (True, "answer_too_large")
    assert "1,000 bytes" in text_of(outcome)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_the_limit_counts_unpacked_bytes(call: Caller, origin: Origin, encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    origin.replies(pack(bytes(50_000_000)), Content_Encoding=encoding, Content_Type="text/plain")
    assert (await call({})).failure == "answer_too_large"
    origin.replies(pack(b"small"), Content_Encoding=encoding, Content_Type="text/plain")
    assert text_of(await call({})) == "small"


async def test_a_bomb_in_an_error_is_cut_too(call: Caller, origin: Origin) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    origin.replies(bomb, 500, Content_Encoding="gzip", Content_Type="text/plain")
    assert len(text_of(await call({}))) < 2_100


async def test_an_endless_answer_is_hung_up_on(call: Caller, origin: Origin) -> None:
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 10_000)
        finally:
            gone.set()

    origin.answer = endless
    assert (await call({})).failure == "answer_too_large"
    async with asyncio.timeout(5):
        await gone.wait()


async def test_a_slow_upstream_is_given_up_on(call: Caller, origin: Origin) -> None:
    origin.answer = never
    outcome = await call({"timeout_seconds": 0.05})
    assert (outcome.is_error, outcome.failure) == (True, "upstream_timeout")


async def test_a_slow_body_is_given_up_on(call: Caller, origin: Origin) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"a beginning")
        return await never(request)

    origin.answer = answer
    assert (await call({"timeout_seconds": 0.05})).failure == "upstream_timeout"


async def test_the_deadline_of_the_call_comes_first(call: Caller, origin: Origin) -> None:
    origin.answer = never
    call.seconds = 0.05
    assert (await call({"timeout_seconds": 300})).failure == "upstream_timeout"


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def test_an_upstream_that_is_not_there_is_unreachable(call: Caller, unused_tcp_port: int) -> None:
    outcome = await call({"url": f"http://127.0.0.1:{unused_tcp_port}/"})
    assert (outcome.is_error, outcome.failure) == (True, "upstream_unreachable")
    assert "127.0.0.1" not in text_of(outcome)
    assert str(unused_tcp_port) not in text_of(outcome)


async def test_an_inner_address_looks_like_any_unreachable_one(call: Caller, unused_tcp_port: int) -> None:
    closed = await call({"url": f"http://127.0.0.1:{unused_tcp_port}/"})
    inner = await call({"url": "http://169.254.169.254/latest/meta-data/"})
    assert inner == closed


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_an_upstream_that_speaks_no_http_is_invalid(call: Caller, said: bytes) -> None:
    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(on_connect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    outcome = await call({"url": f"http://127.0.0.1:{port}/"})
    assert (outcome.is_error, outcome.failure) == (True, "upstream_invalid")
    server.close()
    await server.wait_closed()


async def test_a_caller_who_leaves_closes_the_connection(call: Caller, origin: Origin) -> None:
    started, gone = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        started.set()
        try:
            return await never(request)
        finally:
            gone.set()

    origin.answer = answer
    task = asyncio.create_task(call({}))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await gone.wait()


# ---- retries ---------------------------------------------------------------------------------------------


def hangs_up(times: int) -> Any:
    left = times

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal left
        left -= 1
        if left >= 0:
            assert request.transport is not None
            request.transport.close()
        return web.json_response({"ok": True})

    return answer


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_read_is_tried_once_more_when_its_connection_broke(
    call: Caller, origin: Origin, method: str
) -> None:
    origin.answer = hangs_up(1)
    assert not (await call({"method": method})).is_error
    assert len(origin.received) == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_a_write_is_never_sent_twice(call: Caller, origin: Origin, method: str) -> None:
    await call({"method": method})  # leaves a connection open, on which repeating would be tempting
    origin.answer = hangs_up(1)
    assert (await call({"method": method})).failure == "upstream_unreachable"
    assert len(origin.received) == 2


async def test_retries_have_a_budget(call: Caller, origin: Origin) -> None:
    origin.answer = hangs_up(2)
    assert (await call({})).is_error  # one retry is saved up for the start
    origin.answer = hangs_up(1)
    assert (await call({})).is_error
    assert len(origin.received) == 3
    for _ in range(10):
        await call({})
    origin.answer = hangs_up(1)
    assert not (await call({})).is_error


async def test_an_error_status_is_not_retried(call: Caller, origin: Origin) -> None:
    origin.replies(b"", 503)
    await call({})
    assert len(origin.received) == 1


# ---- secrets ---------------------------------------------------------------------------------------------

SECRET = 'tø"p/s&cr\\et+1'


def echo_of(content_type: str, status: int = 200) -> Any:
    async def answer(request: web.Request) -> web.StreamResponse:
        headers = dict(request.headers)
        said = {"url": request.raw_path, "headers": headers, headers["X-Key"]: [headers["X-Key"]]}
        text = json.dumps(said, ensure_ascii=content_type == "application/json")
        nested = json.dumps({"inner": text})
        body = f"[{text},{nested}]" if "json" in content_type else headers["X-Key"] + text
        return web.Response(body=body.encode(), status=status, headers={"Content-Type": content_type})

    return answer


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/x+json", 200),
        ("text/plain", 200),
        ("image/png", 200),
        ("application/pdf", 200),
        ("application/json", 401),
        ("text/html", 500),
    ],
)
async def test_an_echoed_secret_is_masked(
    call: Caller, origin: Origin, content_type: str, status: int
) -> None:
    call.secrets |= {"token": SECRET, "password": "swordfish-9"}
    origin.answer = echo_of(content_type, status)
    outcome = await call(
        {
            "url": "{base_url}/{secret:token}",
            "constants": [
                {"in": "header", "name": "X-Key", "value": "{secret:token}"},
                {"in": "query", "name": "key", "value": "{secret:token}"},
                {"in": "cookie", "name": "key", "value": "{secret:token}"},
            ],
            "basic_auth": {"username": "ann", "password": "{secret:password}"},
        }
    )
    shown = json.dumps(outcome.content, ensure_ascii=False) + json.dumps(
        None if outcome.structured is UNSET else outcome.structured, ensure_ascii=False
    )
    for block in outcome.content:
        encoded = block.get("data") or block.get("resource", {}).get("blob") or ""
        shown += base64.b64decode(encoded).decode()
    basic = base64.b64encode(b"ann:swordfish-9").decode()
    for leak in (SECRET, json.dumps(SECRET)[1:-1], "s%26cr", "s&cr", "swordfish", basic):
        assert leak not in shown


async def test_a_secret_in_a_number_is_masked(call: Caller, origin: Origin) -> None:
    call.secrets["pin"] = "12345678"
    origin.replies_json({"pin": 12345678, "other": 5})
    outcome = await call({})
    assert outcome.structured == {"pin": HIDDEN, "other": 5}
    assert "12345678" not in text_of(outcome)


async def test_half_a_secret_is_not_left_at_the_cut(call: Caller, origin: Origin) -> None:
    call.secrets["token"] = "s" * 400
    origin.replies("x" * 1_900 + "s" * 400, 500, Content_Type="text/plain")
    assert "s" * 20 not in text_of(await call({})).partition("\n\n")[2]


async def test_a_secret_as_the_host_of_a_redirect_is_masked(call: Caller, origin: Origin) -> None:
    call.secrets["token"] = "secretname"
    origin.replies(b"", 302, Location="https://secretname.example/")
    assert "secretname" not in text_of(await call({}))


@pytest.mark.parametrize(
    "secret", [SECRET, "\\\\\\\\", '"q\\w"', "a b\nc\t", "😀😀😀😀", "'<&>'", "plain-Token_1.~"]
)
def test_a_secret_is_found_in_every_form(secret: str) -> None:
    in_json, in_url = json.dumps(secret), quote(secret, safe="")
    forms = [
        secret,
        in_json,
        json.dumps(secret, ensure_ascii=False),
        in_json.replace("/", "\\/"),
        json.dumps(in_json),
        json.dumps(json.dumps(in_json)),
        in_url,
        quote(in_url, safe=""),
        quote_plus(secret),
        html.escape(secret),
    ]
    mask = Mask([secret])
    for form in forms:
        assert mask.text(f"({form})").replace('"', "").replace("\\", "") == f"({HIDDEN})", form
        assert b"***" in mask.data(form.encode()), form


def test_looking_for_secrets_stays_linear_in_texts_made_to_slow_it() -> None:
    mask = Mask(["\\" * 40 + '"x', "ab/" * 50, " " * 30])
    for text in ("\\" * 300_000, "ab/" * 100_000, "%25" * 100_000, " +" * 100_000):
        mask.data(mask.text(text).encode())  # ends


def test_very_short_secrets_do_not_blot_out_answers() -> None:
    assert Mask(["a", "", "usr"]).text("a usr") == "a usr"


def test_the_longer_of_two_secrets_disappears_whole() -> None:
    assert Mask(["abcd", "abcdefgh"]).text("abcdefgh abcd") == f"{HIDDEN} {HIDDEN}"


# ---- tenants ---------------------------------------------------------------------------------------------


async def test_a_cookie_baked_for_one_tenant_is_not_sent_for_another(call: Caller, origin: Origin) -> None:
    origin.replies("baked", Set_Cookie="session=of-acme; Path=/", Content_Type="text/plain")
    await call({})
    await call({})
    call.tenant = "globex"
    await call({})
    assert [request.headers.get("Cookie") for request in origin.received] == [None, None, None]


async def test_two_tenants_never_share_a_connection(call: Caller, origin: Origin) -> None:
    ports: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        return web.json_response(True)

    origin.answer = answer
    await call({})
    await call({})
    call.tenant = "globex"
    await call({})
    assert ports[0] == ports[1]
    assert ports[2] != ports[0]


async def test_a_tool_with_a_missing_secret_leaves_the_others_alone(call: Caller) -> None:
    constant = {"in": "header", "name": "X-Key", "value": "{secret:absent}"}
    assert (await call({"constants": [constant]})).failure == "secret_missing"
    assert not (await call({})).is_error


async def test_a_tool_can_be_compiled_on_any_thread(origin: Origin) -> None:
    known = Upstreams(lambda: session(Guard(allow=["127.0.0.0/8"])))
    tool = await asyncio.to_thread(
        compile_tool,
        {"method": "GET", "url": origin.url},
        variables={},
        secrets={},
        upstreams=known,
        tenant="acme",
    )
    assert not tool.is_immediate
    deadline = asyncio.get_running_loop().time() + 5
    assert not (await tool.call(ToolCall({}, deadline, 1_000))).is_error
    await known.close()
