from __future__ import annotations

import pytest


def _refused(answer, status: int, code: str) -> dict:
    assert answer.status_code == status, answer.content
    error = answer.json()["error"]
    assert sorted(error) == ["class", "code", "data", "message", "request_id"]
    assert error["code"] == code
    assert error["request_id"] == answer["X-Request-Id"]
    return error


def test_every_refusal_has_the_one_shape(owner, anonymous):
    _refused(anonymous.get("tenant"), 401, "unauthenticated")
    _refused(owner.get("servers/none"), 404, "not_found")
    _refused(owner.get("no/such/address"), 404, "not_found")
    _refused(owner.put("servers", {}), 405, "method_not_allowed")
    _refused(
        owner.raw("POST", "servers", b"slug=a", "application/x-www-form-urlencoded"),
        415,
        "unsupported_media_type",
    )
    _refused(owner.post("servers", {}), 422, "invalid_input")


def test_the_methods_an_address_answers_are_named(owner):
    assert set(owner.put("servers", {})["Allow"].split(", ")) >= {"GET", "POST"}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"\xff",
        b'{"slug": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"slug": "a", "title": "\\u0000"}',
        b'{"slug": "a", "title": "\\ud800"}',
        b'"text"',
        b"[]",
        b"null",
        b"1e999999",
    ],
)
def test_bad_bodies_get_a_clear_answer(owner, body):
    error = _refused(
        owner.raw("POST", "servers", body), 422, owner.raw("POST", "servers", body).json()["error"]["code"]
    )
    assert error["class"] == "client"


def test_huge_numbers_break_nothing(owner):
    assert owner.raw("POST", "servers", b'{"slug": %s, "title": "x"}' % (b"9" * 5_000)).status_code == 422


def test_a_body_over_the_limit_is_too_large(owner):
    _refused(owner.raw("PUT", "servers/a/draft", b" " * (17 * 1024 * 1024 + 1)), 413, "too_large")


def test_names_that_no_database_takes_are_not_found(owner, server):
    for path in (
        "servers/%00",
        "servers/echo/tools/%00",
        "servers/echo/versions/%00",
        "servers/echo/secrets/%00",
    ):
        assert owner.delete(path).status_code in {404, 405, 422}, path
    assert owner.get("calls?status=%00").status_code == 200


def test_answers_are_not_cached(owner):
    assert owner.get("servers")["Cache-Control"] == "no-store"
