"""The difference between two definitions of one part, as lines and words for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

# Comparing takes the square of these; what is longer is shown as it was and as it is.
MOST_WORDS = 2_000
MOST_LINES = 600
# Unchanged lines around a change.
AROUND = 2


@dataclass(frozen=True, slots=True)
class Line:
    """`kind` is "same", "gone", "new" or "gap". `words` are (text, is_other) pairs."""

    kind: str
    words: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One member of the definition. `is_code` tells a JSON value from a text."""

    name: str
    lines: tuple[Line, ...]
    is_code: bool


def differences_of(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[Difference]:
    """Members that differ, in the order of the new definition; all of it as new when the old one is not known."""
    before = old or {}
    names = [*new, *(name for name in before if name not in new)]
    return [
        _difference(name, before.get(name), new.get(name))
        for name in names
        if before.get(name) != new.get(name) or (name in before) != (name in new)
    ]


def _difference(name: str, old: Any, new: Any) -> Difference:
    is_code = not all(isinstance(value, str | None) for value in (old, new))
    if is_code:
        return Difference(name, tuple(_compared(_json_lines(old), _json_lines(new))), is_code)
    return Difference(name, tuple(_reworded(old, new)), is_code)


def _json_lines(value: Any) -> list[str]:
    return [] if value is None else json.dumps(value, indent=2, ensure_ascii=False).split("\n")


def _plain(kind: str, text: str) -> Line:
    return Line(kind, ((text, False),))


def _reworded(old: str | None, new: str | None) -> Iterator[Line]:
    if old is None or new is None:
        yield from (_plain(kind, text) for kind, text in (("gone", old), ("new", new)) if text is not None)
        return
    was, now = _words(old), _words(new)
    if max(len(was), len(now)) > MOST_WORDS:
        yield from (_plain("gone", old), _plain("new", new))
        return
    steps = SequenceMatcher(None, was, now, autojunk=False).get_opcodes()
    yield Line("gone", tuple(("".join(was[a:b]), tag != "equal") for tag, a, b, _, _ in steps if a < b))
    yield Line("new", tuple(("".join(now[c:d]), tag != "equal") for tag, _, _, c, d in steps if c < d))


def _words(text: str) -> list[str]:
    """Words with the blank behind them, so that joined they are the text again."""
    parts = text.split(" ")
    return [f"{part} " for part in parts[:-1]] + parts[-1:]


def _compared(was: list[str], now: list[str]) -> Iterator[Line]:
    if max(len(was), len(now)) > MOST_LINES:
        yield from (_plain("gone", line) for line in was[:MOST_LINES])
        yield from (_plain("new", line) for line in now[:MOST_LINES])
        yield _plain("gap", "…")
        return
    groups = SequenceMatcher(None, was, now, autojunk=False).get_grouped_opcodes(AROUND)
    for number, group in enumerate(groups):
        if number:
            yield _plain("gap", "…")
        for tag, a, b, c, d in group:
            if tag == "equal":
                yield from (_plain("same", line) for line in was[a:b])
                continue
            yield from (_plain("gone", line) for line in was[a:b])
            yield from (_plain("new", line) for line in now[c:d])
