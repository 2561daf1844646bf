"""What is pinned of a definition, what is seen to differ, and what hides in a text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.runtimes.remote.definitions import Difference, differences, digest_of
from servers.runtimes.remote.hidden import hidden_characters

TOOL: dict[str, Any] = {
    "name": "forecast",
    "title": "Forecast",
    "description": "Weather for a region",
    "inputSchema": {
        "type": "object",
        "properties": {"days": {"type": "integer", "minimum": 1}},
        "required": [],
    },
    "outputSchema": {"type": "object"},
    "annotations": {"readOnlyHint": True},
}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "forecast2"},
        {"title": "Other"},
        {"title": None},
        {"description": "Weather for a region "},
        {"description": "Weather for a region\u200b"},
        {"inputSchema": {"type": "object"}},
        {"inputSchema": TOOL["inputSchema"] | {"required": ["days"]}},
        {"outputSchema": None},
        {"annotations": {"readOnlyHint": False}},
        {"_meta": {"ui": {"resourceUri": "ui://x"}}},
        {"_meta": {"ui/resourceUri": "ui://x"}},
        {"uri": "a:b"},
        {"uriTemplate": "a:{b}"},
        {"mimeType": "text/plain"},
        {"arguments": [{"name": "a"}]},
    ],
)
def test_every_change_of_what_a_model_or_its_host_reads_shows(change: dict[str, Any]) -> None:
    changed = TOOL | change
    assert digest_of(changed) != digest_of(TOOL)
    [difference] = differences(TOOL, changed)
    member = "ui" if "_meta" in change else next(iter(change))
    assert difference.member == member
    assert difference == Difference(member, difference.old, difference.new)


@pytest.mark.parametrize(
    "change",
    [
        {"icons": [{"src": "https://x.example/i.png?signed=1"}]},
        {"_meta": {"trace": 1}},
        {"size": 5},
        {"execution": {"taskSupport": "optional"}},
        {"uri": None, "mimeType": "", "arguments": []},
        {"annotations": {"readOnlyHint": True, "lastModified": "2026-01-01T00:00:00Z"}},
        {
            "inputSchema": {
                "required": [],
                "properties": {"days": {"minimum": 1.0, "type": "integer"}},
                "type": "object",
            }
        },
    ],
)
def test_what_moves_by_itself_or_means_the_same_does_not(change: dict[str, Any]) -> None:
    assert digest_of(TOOL | change) == digest_of(TOOL)
    assert differences(TOOL, TOOL | change) == ()


def test_the_digest_is_written_down() -> None:
    """It stands in manifests: whoever changes it quarantines everybody's tools."""
    assert digest_of(TOOL) == "ecd6b4678d6d3ea2a4d62c2b5e3a521bb60fe7528e2d44e40f9d20edb8971ed6"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(), json_values, max_size=4), st.dictionaries(st.text(), json_values, max_size=4)
)
def test_digests_are_equal_exactly_when_nothing_differs(one: dict[str, Any], other: dict[str, Any]) -> None:
    a, b = TOOL | {"inputSchema": one}, TOOL | {"inputSchema": other}
    assert (digest_of(a) == digest_of(b)) == (differences(a, b) == ())
    assert digest_of(json.loads(json.dumps(a))) == digest_of(a)


# ---- hidden characters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "position", "length", "name"),
    [
        ("safe\u202etxt", "bidi", 4, 1, "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("\u2066x", "bidi", 0, 1, "U+2066 LEFT-TO-RIGHT ISOLATE"),
        ("a\u200bb", "zero-width", 1, 1, "U+200B ZERO WIDTH SPACE"),
        ("pass\u200dword", "zero-width", 4, 1, "U+200D ZERO WIDTH JOINER"),
        ("\ufeffname", "zero-width", 0, 1, "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("so\u00adft", "zero-width", 2, 1, "U+00AD SOFT HYPHEN"),
        ("a\x1b[31mred", "ansi", 1, 5, "ANSI escape sequence '\\x1b[31m'"),
        ("\x1b]0;title\x07x", "ansi", 0, 10, "ANSI escape sequence '\\x1b]0;title\\x07'"),
        ("\x9b2Jx", "ansi", 0, 3, "ANSI escape sequence '\\x9b2J'"),
        ("x\x1bc", "ansi", 1, 2, "ANSI escape sequence '\\x1bc'"),
        ("x\x1b", "ansi", 1, 1, "ANSI escape sequence '\\x1b'"),
        ("x\x00", "control", 1, 1, "U+0000 NULL"),
        ("x\x08y", "control", 1, 1, "U+0008 BACKSPACE"),
        ("x\u2028y", "control", 1, 1, "U+2028 LINE SEPARATOR"),
        (
            "hi" + "".join(chr(0xE0000 + ord(letter)) for letter in "send"),
            "tag",
            2,
            4,
            "TAG characters spelling 'send'",
        ),
        ("a\ufe0f", "variation", 1, 1, "U+FE0F VARIATION SELECTOR-16"),
        ("😀\U000e0110\U000e0120", "variation", 1, 2, "U+E0110 VARIATION SELECTOR-33 and 1 more"),
    ],
)
def test_hidden_characters_are_named_with_their_place(
    text: str, kind: str, position: int, length: int, name: str
) -> None:
    [found] = hidden_characters(text)
    assert (found.kind, found.position, found.length, found.name) == (kind, position, length, name)


@pytest.mark.parametrize(
    "text",
    [
        "Weather for a region.\n\tWith tabs.\r\n",
        "Grüße, 天気, здравствуйте",
        "⚠️ Careful ☀︎ 1️⃣",
        "👩‍💻 and 👨‍👩‍👧",
        "❤️‍🔥",
        "می‌خواهم",
        "क्‍ष",
        "",
    ],
)
def test_ordinary_writing_is_not_reported(text: str) -> None:
    assert hidden_characters(text) == []


def test_a_text_full_of_them_is_reported_in_part() -> None:
    assert len(hidden_characters("a\u200b" * 10_000)) == 200


@given(st.text())
def test_any_text_can_be_looked_through(text: str) -> None:
    for found in hidden_characters(text):
        assert 0 <= found.position < found.position + found.length <= len(text)
