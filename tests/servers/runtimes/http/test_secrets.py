"""Secrets are sent where they belong and never shown, whatever an origin echoes."""

from __future__ import annotations

import base64
import html
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from aiohttp import web

from servers.runtimes.base import UNSET
from servers.runtimes.http.masking import HIDDEN, Mask
from tests.servers.runtimes.conftest import Caller, Origin, text_of

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
