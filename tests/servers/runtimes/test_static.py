"""Tools that need no upstream, and the texts of resources, templates and prompts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from servers.runtimes.base import UNSET, Outcome, ToolCall
from servers.runtimes.static import (
    TooManySteps,
    compile_tool,
    complete,
    fill,
    first_match,
    match_uri_template,
    parse_uri_template,
)


async def answer(definition: dict[str, Any], **arguments: Any) -> Outcome:
    tool = compile_tool(definition)
    assert tool.is_immediate
    return await tool.call(ToolCall(arguments, 0, 10_000))


# ---- tools -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"text": "hello"}, "hello"),
        ({"number": 5}, "5"),
        ({"a": "x", "b": [1]}, '{"a":"x","b":[1]}'),
        ({}, "{}"),
        ({"a": None}, '{"a":null}'),
    ],
)
async def test_an_echo_gives_back_what_it_got(arguments: dict[str, Any], text: str) -> None:
    assert await answer({"kind": "echo"}, **arguments) == Outcome([{"type": "text", "text": text}], arguments)


@time_machine.travel(datetime(2026, 7, 1, 12, tzinfo=UTC), tick=False)
async def test_the_clock_tells_the_time() -> None:
    outcome = await answer({"kind": "clock"})
    assert outcome.structured == {"time": "2026-07-01T12:00:00+00:00", "timezone": "UTC"}
    outcome = await answer({"kind": "clock"}, timezone="Europe/Rome")
    assert outcome.content == [{"type": "text", "text": "2026-07-01T14:00:00+02:00"}]
    assert datetime.fromisoformat(outcome.content[0]["text"]).utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "../etc/passwd", "/etc/passwd", "America", "a\x00b", "x" * 5_000, 5]
)
async def test_a_time_zone_that_is_none_is_refused(zone: Any) -> None:
    outcome = await answer({"kind": "clock"}, timezone=zone)
    assert outcome.is_error
    assert outcome.failure == "argument_refused"


async def test_a_text_is_filled_in() -> None:
    outcome = await answer({"kind": "text", "text": "Hello {name}!"}, name="{name}")
    assert outcome == Outcome([{"type": "text", "text": "Hello {name}!"}], UNSET)


@pytest.mark.parametrize("definition", [{}, {"kind": "magic"}, {"kind": "text"}, {"kind": "text", "text": 1}])
def test_an_unknown_kind_is_refused(definition: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="echo, clock or text"):
        compile_tool(definition)


# ---- texts -----------------------------------------------------------------------------------------------


def test_filling_touches_nothing_but_known_names() -> None:
    text = '{"json": {a}} {unknown} { a } {a}{b}'
    assert fill(text, {"a": "{b}", "b": 2, "json": "no"}, limit=100) == '{"json": {b}} {unknown} { a } {b}2'


def test_completions_are_prefixes_in_any_case_and_at_most_a_hundred() -> None:
    assert complete(["Rome", "Paris", "rotterdam"], "RO") == ["Rome", "rotterdam"]
    assert complete(["Rome", "Paris"], "") == ["Rome", "Paris"]
    many = [f"v{number}" for number in range(500)]
    assert complete(many, "v") == many[:100]
    assert complete(many, "v", limit=101) == many[:101]


# ---- URI templates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "uri", "values"),
    [
        ("note://{id}", "note://7", {"id": "7"}),
        ("note://{id}", "note://a%20b%2Fc", {"id": "a b/c"}),
        ("note://{id}", "note://a/b", None),
        ("note://{id}", "note://", None),
        ("note://{id}", "other://7", None),
        ("note://{id}/text", "note://7/texts", None),
        ("note://{a}/{b}", "note://1/2", {"a": "1", "b": "2"}),
        ("note://{a}-{b}", "note://1-2-3", {"a": "1", "b": "2-3"}),
        ("note://{a}{b}", "note://xyz", {"a": "x", "b": "yz"}),
        ("note://{a,b}", "note://1,2", {"a": "1", "b": "2"}),
        ("file:///{+path}", "file:///a/b%20c.txt", {"path": "a/b c.txt"}),
        ("file://{+path}/{name}", "file:///a/b/c.txt", {"path": "/a/b", "name": "c.txt"}),
        ("file://{+path}/x/{name}", "file:///x/x/x/y", {"path": "/x/x", "name": "y"}),
        ("{+a}/x/{b}/y/{+c}", "1/x/2/3/x/4/y/5/6", {"a": "1/x/2/3", "b": "4", "c": "5/6"}),
        ("doc://d{/a,b}", "doc://d/1/2", {"a": "1", "b": "2"}),
        ("doc://d{.ext}", "doc://d.txt", {"ext": "txt"}),
        ("doc://d{#part}", "doc://d#a/b", {"part": "a/b"}),
        ("find://x{?q,lang}", "find://x?lang=it&q=a+b%26&other=1", {"q": "a b&", "lang": "it"}),
        ("find://{x}{?q}", "find://x", {"x": "x"}),
        ("note://{a}.json", "note://x.json.json", {"a": "x.json"}),
        ("note://{a}", "note://" + "x" * 9_000, None),
    ],
)
def test_uris_are_matched_to_templates(template: str, uri: str, values: dict[str, str] | None) -> None:
    assert match_uri_template(template, uri) == values


@pytest.mark.parametrize(
    "template",
    ["note://{", "note://{a:3}", "note://{a*}", "note://{&a}", "note://{a}{a}", "note://x", "{a}}", "{?a}b"],
)
def test_an_unsupported_template_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="URI template"):
        parse_uri_template(template)


def test_a_template_names_its_variables() -> None:
    assert parse_uri_template("x://{a}/{+b}{?d,c}").variables == ("a", "b", "c", "d")


def test_matching_stays_linear_on_uris_made_to_slow_it() -> None:
    template = "x://" + "{+a}-{+b}-{+c}-{+d}-{+e}-{+f}-{+g}-{+h}-{+i}-{+j}" + "!"
    assert match_uri_template(template, "x://" + "-a" * 1_000) is None  # ends


def test_trying_templates_ends_before_it_takes_long() -> None:
    uri = "x:" + "a" * 2_000
    alike = [(parse_uri_template("x:{+a}" + "a" * (900 - n) + "{+b}b{c}"), n) for n in range(400)]
    with pytest.raises(TooManySteps):
        first_match(alike, uri)
    apart = [(parse_uri_template("y:{+a}" + "a" * (900 - n) + "{+b}b{c}"), n) for n in range(400)]
    assert first_match([*apart, (parse_uri_template("x:{a}"), 7)], uri) == (7, {"a": "a" * 2_000})


def test_five_hundred_alike_templates_are_all_tried() -> None:
    alike = [(parse_uri_template(f"api://{{a}}/things{n}/{{b}}/{{c}}"), n) for n in range(500)]
    assert first_match(alike, "api://acme/things499/7/x") == (499, {"a": "acme", "b": "7", "c": "x"})


def test_a_query_of_very_many_fields_matches_nothing() -> None:
    assert match_uri_template("x:{a}{?q}", "x:y?q=1" + "&q=2" * 50) == {"a": "y", "q": "2"}
    assert match_uri_template("x:{a}{?q}", "x:y?q=1" + "&q=2" * 150) is None


@given(
    a=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/?#%"), min_size=1, max_size=50),
    b=st.text(min_size=1, max_size=50),
)
def test_what_was_put_into_a_template_comes_out(a: str, b: str) -> None:
    uri = f"x://{quote(a, safe='')}/{quote(b, safe='')}"
    assert match_uri_template("x://{a}/{b}", uri) == {"a": a, "b": b}
