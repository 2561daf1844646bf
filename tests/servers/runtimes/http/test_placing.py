"""Where arguments go in a request, and what can never be done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servers.runtimes.http.tool import compile_tool, preview
from servers.runtimes.upstreams import Upstreams

if TYPE_CHECKING:
    from tests.servers.runtimes.conftest import Caller, Origin

LIST = ["blue", "black", "br wn"]
RGB = {"R": 100, "G": 200}


def parameter(place: str, **more: Any) -> dict[str, Any]:
    return {"in": place, "name": "color", "argument": "value", **more}


def url_of(definition: dict[str, Any], arguments: dict[str, Any]) -> str:
    return shown(definition, arguments).url.removeprefix("https://api.example")


def shown(definition: dict[str, Any], arguments: dict[str, Any]) -> Any:
    full = {"method": "GET", "url": "https://api.example/x"} | definition
    return preview(full, arguments, {}, ())


@pytest.mark.parametrize(
    ("options", "value", "expected"),
    [
        ({}, "blue", "/x/blue"),
        ({}, "a b/c?d#e%f", "/x/a%20b%2Fc%3Fd%23e%25f"),
        ({}, "é€😀", "/x/%C3%A9%E2%82%AC%F0%9F%98%80"),
        ({}, "A-Z_a.z~9", "/x/A-Z_a.z~9"),
        ({}, 12, "/x/12"),
        ({}, 1.5, "/x/1.5"),
        ({}, False, "/x/false"),
        ({}, LIST, "/x/blue,black,br%20wn"),
        ({}, RGB, "/x/R,100,G,200"),
        ({"explode": True}, RGB, "/x/R=100,G=200"),
        ({"style": "label"}, "blue", "/x/.blue"),
        ({"style": "label"}, LIST, "/x/.blue,black,br%20wn"),
        ({"style": "label", "explode": True}, LIST, "/x/.blue.black.br%20wn"),
        ({"style": "label", "explode": True}, RGB, "/x/.R=100.G=200"),
        ({"style": "matrix"}, "blue", "/x/;color=blue"),
        ({"style": "matrix"}, LIST, "/x/;color=blue,black,br%20wn"),
        ({"style": "matrix", "explode": True}, LIST, "/x/;color=blue;color=black;color=br%20wn"),
        ({"style": "matrix", "explode": True}, RGB, "/x/;R=100;G=200"),
        ({"content_type": "application/json"}, {"a": [1]}, "/x/%7B%22a%22%3A%5B1%5D%7D"),
    ],
)
def test_path_parameters(options: dict[str, Any], value: Any, expected: str) -> None:
    definition = {"url": "https://api.example/x/{color}", "parameters": [parameter("path", **options)]}
    assert url_of(definition, {"value": value}) == expected


@pytest.mark.parametrize(
    ("options", "value", "expected"),
    [
        ({}, "a b&c=d+e", "/x?color=a%20b%26c%3Dd%2Be"),
        ({}, "", "/x?color="),
        ({}, None, "/x"),
        ({}, 12, "/x?color=12"),
        ({}, True, "/x?color=true"),
        ({}, LIST, "/x?color=blue&color=black&color=br%20wn"),
        ({}, [], "/x"),
        ({}, RGB, "/x?R=100&G=200"),
        ({"explode": False}, LIST, "/x?color=blue,black,br%20wn"),
        ({"explode": False}, RGB, "/x?color=R,100,G,200"),
        ({"explode": False}, ["a,b", "c"], "/x?color=a%2Cb,c"),
        ({"style": "spaceDelimited"}, LIST, "/x?color=blue%20black%20br%20wn"),
        ({"style": "spaceDelimited", "explode": True}, ["a", "b"], "/x?color=a&color=b"),
        ({"style": "pipeDelimited"}, ["a", "b"], "/x?color=a%7Cb"),
        ({"style": "pipeDelimited"}, RGB, "/x?color=R%7C100%7CG%7C200"),
        ({"style": "deepObject"}, RGB, "/x?color%5BR%5D=100&color%5BG%5D=200"),
        ({"style": "deepObject"}, {"a": {"b": [1, 2]}}, "/x?color%5Ba%5D%5Bb%5D=1&color%5Ba%5D%5Bb%5D=2"),
        ({"content_type": "application/json"}, {"a": [1]}, "/x?color=%7B%22a%22%3A%5B1%5D%7D"),
        ({"content_type": "application/json"}, None, "/x?color=null"),
    ],
)
def test_query_parameters(options: dict[str, Any], value: Any, expected: str) -> None:
    assert url_of({"parameters": [parameter("query", **options)]}, {"value": value}) == expected


def test_an_argument_that_is_not_given_is_left_out() -> None:
    places = [parameter("query"), parameter("header"), parameter("cookie")]
    request = shown({"parameters": places}, {})
    assert request.url == "https://api.example/x"
    assert set(request.headers) == {"Accept", "User-Agent", "Mooring-Hops"}


@pytest.mark.parametrize(
    ("options", "value", "expected"),
    [
        ({}, "blue", "blue"),
        ({}, " blue ", "blue"),
        ({}, "né", "né"),
        ({}, LIST, "blue,black,br wn"),
        ({}, RGB, "R,100,G,200"),
        ({"explode": True}, RGB, "R=100,G=200"),
        ({"content_type": "application/json"}, {"a": "é\n"}, '{"a":"\\u00e9\\n"}'),
    ],
)
def test_header_parameters(options: dict[str, Any], value: Any, expected: str) -> None:
    request = shown({"parameters": [parameter("header", **options)]}, {"value": value})
    assert request.headers["color"] == expected


@pytest.mark.parametrize(
    "value", ["a\r\nX-Admin: 1", "a\nb", "a\rb", "a\x00b", "a\x1bb", "日本", ["a", "b\r\nc"]]
)
def test_a_header_cannot_be_broken_out_of(value: Any) -> None:
    with pytest.raises(ValueError, match="line breaks or characters"):
        shown({"parameters": [parameter("header")]}, {"value": value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a b;c", "color=a%20b%3Bc"),
        ("x; admin=1\r\n", "color=x%3B%20admin=1%0D%0A"),
        ("YWI+/=", "color=YWI+/="),
        (["a", "b"], "color=a; color=b"),
        (RGB, "R=100; G=200"),
    ],
)
def test_cookie_parameters(value: Any, expected: str) -> None:
    request = shown({"parameters": [parameter("cookie")]}, {"value": value})
    assert request.headers["Cookie"] == expected


def test_cookies_of_parameters_and_constants_share_one_header() -> None:
    constant = {"in": "cookie", "name": "version", "value": "2"}
    request = shown({"parameters": [parameter("cookie")], "constants": [constant]}, {"value": "x"})
    assert request.headers["Cookie"] == "version=2; color=x"


@pytest.mark.parametrize(
    "value",
    [
        ".",
        "..",
        "../admin",
        "..\\admin",
        "a/../../admin",
        "a/..",
        "./a",
        "%2e%2e",
        "%2e%2e%2fadmin",
        "..%2fadmin",
        "%252e%252e%252fadmin",
        [".."],
        ["../admin"],
    ],
)
def test_a_path_argument_cannot_climb(value: Any) -> None:
    definition = {"url": "https://api.example/x/{color}/y", "parameters": [parameter("path")]}
    with pytest.raises(ValueError, match=r"segments \. or \.\."):
        shown(definition, {"value": value})


@pytest.mark.parametrize("value", ["", None, [], {}, [None], [""]])
def test_a_path_argument_must_not_be_empty(value: Any) -> None:
    definition = {"url": "https://api.example/x/{color}/y", "parameters": [parameter("path")]}
    with pytest.raises(ValueError, match="must not be empty"):
        shown(definition, {"value": value})


def test_two_dots_side_by_side_are_refused() -> None:
    places = [{"in": "path", "name": name, "argument": name, "style": "label"} for name in ("a", "b")]
    with pytest.raises(ValueError, match="segments"):
        shown({"url": "https://api.example/{a}/{b}", "parameters": places}, {"a": "x", "b": "."})


@pytest.mark.parametrize(
    "value",
    ["a/b", "a//b", "http://evil.example/", "//evil.example", "\\\\evil", "a\r\nb", "v1.2.3", "a..b", "..."],
)
def test_a_path_argument_stays_one_segment(value: str) -> None:
    definition = {"url": "https://api.example/x/{color}/y", "parameters": [parameter("path")]}
    path = url_of(definition, {"value": value})
    assert path.startswith("/x/")
    assert path.endswith("/y")
    assert path.count("/") == 3
    assert unquote(path[3:-2]) == value


@given(value=st.text(min_size=1))
def test_any_text_comes_back_out_of_a_query(value: str) -> None:
    url = url_of({"parameters": [parameter("query")]}, {"value": value})
    assert url.isascii()
    assert parse_qsl(url.partition("?")[2], keep_blank_values=True) == [("color", value)]


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(value=st.text(min_size=1).filter(lambda text: "." not in text and "%" not in text))
def test_any_text_comes_back_out_of_a_path(value: str) -> None:
    definition = {"url": "https://api.example/x/{color}", "parameters": [parameter("path")]}
    path = url_of(definition, {"value": value})
    assert path.isascii()
    assert unquote(path.removeprefix("/x/")) == value


async def test_nothing_encodes_the_address_again_on_its_way(call: Caller, origin: Origin) -> None:
    await call(
        {
            "url": "{base_url}/a%2Fb/{city}/c",
            "parameters": [
                {"in": "path", "name": "city", "argument": "city"},
                {"in": "query", "name": "q[]", "argument": "q"},
            ],
        },
        city="100%/é +",
        q="a+b c&d;e'f(g)*!",
    )
    assert origin.last.target == "/a%2Fb/100%25%2F%C3%A9%20%2B/c?q%5B%5D=a%2Bb%20c%26d%3Be%27f%28g%29%2A%21"


async def test_a_refused_argument_is_an_answer_that_says_which(call: Caller, origin: Origin) -> None:
    place = {"in": "path", "name": "city", "argument": "place"}
    outcome = await call({"url": "{base_url}/{city}", "parameters": [place]}, place="../secret")
    assert outcome.is_error
    assert outcome.failure == "argument_refused"
    assert outcome.content[0]["text"].startswith("place must not")
    assert origin.received == []


async def test_half_a_character_is_refused(call: Caller, origin: Origin) -> None:
    place = {"in": "query", "name": "q", "argument": "q"}
    outcome = await call({"parameters": [place]}, q="\ud800")
    assert outcome.failure == "argument_refused"
    assert origin.received == []


# ---- constants, variables, secrets -----------------------------------------------------------------------


async def test_constants_and_variables_are_filled_in(call: Caller, origin: Origin) -> None:
    call.secrets["token"] = "t0p&secret"
    await call(
        {
            "url": "{base_url}/v1/{region}?format=json",
            "constants": [
                {"in": "query", "name": "key", "value": "{secret:token}"},
                {"in": "query", "name": "area", "value": "{region} {unknown braces}"},
                {"in": "header", "name": "Authorization", "value": "Bearer {secret:token}\n"},
                {"in": "cookie", "name": "session", "value": "{secret:token}"},
            ],
        }
    )
    assert origin.last.target == "/v1/eu?format=json&key=t0p%26secret&area=eu%20%7Bunknown%20braces%7D"
    assert origin.last.headers["Authorization"] == "Bearer t0p&secret"
    assert origin.last.headers["Cookie"] == "session=t0p&secret"


async def test_a_secret_may_be_a_part_of_the_path(call: Caller, origin: Origin) -> None:
    call.secrets["token"] = "12:ab/c"
    await call({"url": "{base_url}/bot{secret:token}/send"})
    assert origin.last.target == "/bot12%3Aab%2Fc/send"


async def test_basic_auth_is_sent(call: Caller, origin: Origin) -> None:
    call.secrets |= {"user": "ann", "password": "pass:wörd"}
    await call({"basic_auth": {"username": "{secret:user}", "password": "{secret:password}"}})
    assert origin.last.headers["Authorization"] == "Basic YW5uOnBhc3M6d8O2cmQ="


@pytest.mark.parametrize(
    ("change", "failure", "name"),
    [
        (
            {"constants": [{"in": "header", "name": "X-Key", "value": "{secret:absent}"}]},
            "secret_missing",
            "absent",
        ),
        ({"basic_auth": {"username": "u", "password": "{secret:absent}"}}, "secret_missing", "absent"),
        ({"url": "{base_url}/{secret:absent}"}, "secret_missing", "absent"),
        ({"url": "{nowhere}/x"}, "variable_missing", "nowhere"),
        ({"url": "{region}/x"}, "variable_invalid", "https://"),
    ],
)
async def test_what_is_missing_is_named_when_the_tool_is_called(
    call: Caller, origin: Origin, change: dict[str, Any], failure: str, name: str
) -> None:
    outcome = await call(change)
    assert outcome.is_error
    assert outcome.failure == failure
    assert name in outcome.content[0]["text"]
    assert origin.received == []


async def test_a_secret_with_a_line_break_cannot_make_a_second_header(call: Caller, origin: Origin) -> None:
    call.secrets["token"] = "abcd\r\nX-Admin: 1"
    outcome = await call({"constants": [{"in": "header", "name": "X-Key", "value": "{secret:token}"}]})
    assert outcome.failure == "value_invalid"
    assert "abcd" not in str(outcome)
    assert origin.received == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "TRACE"}, "method"),
        ({"url": 5}, "url"),
        ({"url": "api.example/x"}, "https://"),
        ({"url": "ftp://api.example/x"}, "https://"),
        ({"url": "https:///x"}, "host"),
        ({"url": "https://u:p@api.example/"}, "basic_auth"),
        ({"url": "https://api.example/#part"}, "fragment"),
        ({"url": "https://api.example/a/../b"}, "segments"),
        ({"url": "https://api.example/a/%2E%2e/b"}, "segments"),
        ({"url": "https://api.example/a b"}, "spaces"),
        ({"url": "https://api.example/\r\nX: y"}, "spaces"),
        ({"url": "https://{secret:host}/"}, "host"),
        ({"url": "https://{color}.example/", "parameters": [parameter("path")]}, "host"),
        ({"url": "https://a.example/?q={color}", "parameters": [parameter("path")]}, "query"),
        ({"parameters": [parameter("path")]}, "no place for the path parameter color"),
        ({"parameters": [parameter("query", style="matrix")]}, "spaceDelimited"),
        ({"parameters": [parameter("body")]}, "in"),
        ({"parameters": [parameter("header") | {"name": "X Y"}]}, "name of a header"),
        ({"parameters": [parameter("header") | {"name": "Host"}]}, "written by Mooring"),
        ({"parameters": [parameter("header") | {"name": "Transfer-Encoding"}]}, "written by Mooring"),
        ({"parameters": [parameter("header") | {"name": "Cookie"}]}, "cookie"),
        ({"parameters": [parameter("cookie") | {"name": "a;b"}]}, "name of a cookie"),
        ({"constants": [{"in": "header", "name": "content-length", "value": "1"}]}, "written by Mooring"),
        ({"constants": [{"in": "path", "name": "a", "value": "1"}]}, "in"),
        ({"body": {}}, "`argument` or `fields`"),
        ({"body": {"argument": "a", "fields": {"a": "b"}}}, "`argument` or `fields`"),
        ({"body": {"argument": "a", "content_type": "text/plain\r\nX: y"}}, "content type"),
        ({"body": {"fields": {"a": "b"}, "binary": ["c"]}}, "binary"),
        ({"response": {"pick": "data"}}, "JSON pointer"),
        ({"response": {"pick": "/data", "as": "text"}}, "JSON answers only"),
        ({"response": {"as": "xml"}}, "as"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": 10_000}, "timeout_seconds"),
    ],
)
def test_a_malformed_definition_is_refused_with_a_sentence(change: dict[str, Any], sentence: str) -> None:
    definition = {"method": "GET", "url": "https://api.example/x"} | change
    known = Upstreams(lambda: pytest.fail("no session is needed to compile"))
    with pytest.raises(ValueError, match=sentence):
        compile_tool(definition, variables={}, secrets={"host": "inner"}, upstreams=known, tenant="acme")


# ---- preview ---------------------------------------------------------------------------------------------


def test_a_preview_shows_the_request_without_its_secrets() -> None:
    request = preview(
        {
            "method": "POST",
            "url": "{base_url}/bot{secret:token}/{city}",
            "parameters": [{"in": "path", "name": "city", "argument": "city"}],
            "constants": [
                {"in": "query", "name": "key", "value": "{secret:token}"},
                {"in": "header", "name": "X-Key", "value": "Key {secret:other}"},
            ],
            "basic_auth": {"username": "ann", "password": "{secret:token}"},
            "body": {"fields": {"n": "number"}},
        },
        {"city": "São Paulo", "number": 5},
        {"base_url": "https://api.example/v1"},
        {"token": "•••"},
    )
    assert request.method == "POST"
    assert request.url == "https://api.example/v1/bot•••/S%C3%A3o%20Paulo?key=•••"
    assert request.headers["X-Key"] == "Key •••"
    assert request.headers["Authorization"] == "Basic •••"
    assert request.headers["Content-Type"] == "application/json"
    assert request.body == '{"n":5}'
    assert request.missing == ("other",)


def test_a_preview_says_which_variable_is_missing() -> None:
    with pytest.raises(ValueError, match="base_url"):
        preview({"method": "GET", "url": "{base_url}/x"}, {}, {}, ())
