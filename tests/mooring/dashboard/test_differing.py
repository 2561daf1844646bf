"""Differences between definitions as people read them, and characters that hide."""

from __future__ import annotations

from typing import Any

from mooring.dashboard.differing import MOST_LINES, MOST_WORDS, differences_of
from mooring.dashboard.templatetags.mooring import visibly


def lines(old: Any, new: Any) -> list[tuple[str, str]]:
    (found,) = differences_of({"x": old}, {"x": new})
    return [(line.kind, "".join(text for text, _ in line.words)) for line in found.lines]


def test_a_text_is_shown_as_it_was_and_as_it_is_with_the_words_that_differ() -> None:
    (found,) = differences_of({"description": "a b c"}, {"description": "a x c"})
    was, now = found.lines
    assert was.words == (("a ", False), ("b ", True), ("c", False))
    assert now.words == (("a ", False), ("x ", True), ("c", False))


def test_members_that_are_the_same_are_left_out_and_those_that_came_or_went_are_not() -> None:
    old, new = {"same": 1, "gone": "a", "null": None}, {"same": 1, "come": ["b"]}
    found = {part.name: [line.kind for line in part.lines] for part in differences_of(old, new)}
    assert found == {"come": ["new", "new", "new"], "gone": ["gone"], "null": []}


def test_of_a_value_only_what_is_near_a_change_is_shown() -> None:
    old = {str(number): number for number in range(50)}
    shown = lines(old, old | {"3": -3, "40": -40})
    assert shown.count(("gap", "…")) == 1
    assert ("gone", '  "3": 3,') in shown
    assert ("new", '  "3": -3,') in shown
    assert len(shown) == 13


def test_a_member_that_turns_from_a_text_into_a_value_is_shown_as_both() -> None:
    assert lines("a", ["a"]) == [("gone", '"a"'), ("new", "["), ("new", '  "a"'), ("new", "]")]


def test_what_is_too_long_to_compare_is_shown_whole_and_bounded() -> None:
    text = "word " * (MOST_WORDS + 1)
    assert [kind for kind, _ in lines(text, f"{text}more")] == ["gone", "new"]
    value = list(range(MOST_LINES * 2))
    assert len(lines(value, [*value, 1])) == 2 * MOST_LINES + 1


def test_without_what_it_was_all_of_it_is_new() -> None:
    (found,) = differences_of(None, {"name": "echo"})
    assert [line.kind for line in found.lines] == ["new"]


def test_hidden_characters_are_drawn_and_the_rest_is_escaped() -> None:
    shown = visibly("<b>\u202ea\u200b")
    assert shown == (
        '&lt;b&gt;<mark class="sign">U+202E RIGHT-TO-LEFT OVERRIDE</mark>a'
        '<mark class="sign">U+200B ZERO WIDTH SPACE</mark>'
    )


def test_a_text_full_of_hidden_characters_ends_early() -> None:
    shown = visibly("\u200ba" * 1_000)
    assert shown.count("<mark") == 200
    assert shown.endswith(" …")
    assert "\u200b" not in shown
