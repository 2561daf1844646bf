"""Tools that need nothing but themselves, and the texts of resources, templates and prompts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote
from zoneinfo import ZoneInfo

import msgspec

from servers.runtimes.base import Outcome, ToolBinding, ToolCall, text_outcome

COMPLETIONS = 100
LONGEST_URI = 2_048
# Matching walks the URI once a variable, on the event loop.
MAX_VARIABLES = 10

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)\}")


# ---- tools -----------------------------------------------------------------------------------------------


def compile_tool(definition: dict[str, Any]) -> ToolBinding:
    """Make the manifest's `static` object ready. Raise ValueError with a sentence for what it is not."""
    kind = definition.get("kind")
    if kind == "echo":
        return Echo()
    if kind == "clock":
        return Clock()
    if kind == "text" and isinstance(definition.get("text"), str):
        return Text(definition["text"])
    raise ValueError("A static tool is of the kind echo, clock or text; the last needs a text.")


class Echo:
    """Gives its arguments back: a single text as it is, anything else as JSON."""

    is_immediate = True

    async def call(self, call: ToolCall) -> Outcome:
        arguments = dict(call.arguments)
        only = next(iter(arguments.values())) if len(arguments) == 1 else None
        return Outcome([{"type": "text", "text": _text(arguments if only is None else only)}], arguments)


class Clock:
    """The time, in UTC or in the `timezone` asked for by its IANA name."""

    is_immediate = True

    async def call(self, call: ToolCall) -> Outcome:
        name = call.arguments.get("timezone") or "UTC"
        zone = _zone(name)
        if zone is None:
            return text_outcome(
                f"There is no time zone called {_text(name)[:64]}. Write one such as Europe/Paris.",
                is_error=True,
                failure="argument_refused",
            )
        time = datetime.now(zone).isoformat(timespec="seconds")
        return Outcome([{"type": "text", "text": time}], {"time": time, "timezone": name})


class Text:
    """A text with its placeholders filled in."""

    is_immediate = True

    def __init__(self, text: str) -> None:
        self._text = text

    async def call(self, call: ToolCall) -> Outcome:
        try:
            return text_outcome(fill(self._text, call.arguments, limit=call.answer_bytes))
        except TooLong as error:
            return text_outcome(str(error), is_error=True, failure="answer_too_large")


@lru_cache(maxsize=1_000)
def _known_zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    # Names come from callers: unknown (KeyError), malformed (ValueError) or a folder of the database (OSError).
    except (KeyError, ValueError, OSError):
        return None


def _zone(name: Any) -> tzinfo | None:
    if name == "UTC":
        return UTC
    return _known_zone(name) if isinstance(name, str) and len(name) <= 64 else None


# ---- texts -----------------------------------------------------------------------------------------------


class TooLong(ValueError):
    """A text grew beyond what its answer may hold."""


def fill(text: str, values: Mapping[str, Any], *, limit: int) -> str:
    """Replace each `{name}` that has a value; other braces stay, and values are not looked through again.

    Raises `TooLong` as soon as the result exceeds `limit` characters: a few placeholders and a long value
    multiply to more memory than there is.
    """
    room = limit - len(text)

    def value(match: re.Match[str]) -> str:
        nonlocal room
        filled = _text(values[match[1]]) if match[1] in values else match[0]
        room -= len(filled) - len(match[0])
        if room < 0:
            raise TooLong(f"The answer would be longer than {limit} characters.")
        return filled

    return _PLACEHOLDER.sub(value, text)


def complete(values: Iterable[str], prefix: str, *, limit: int = COMPLETIONS) -> list[str]:
    """The first `limit` values that begin with `prefix`, whatever the case."""
    start = prefix.casefold()
    found = (value for value in values if value.casefold().startswith(start))
    return [value for value, _ in zip(found, range(limit), strict=False)]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


# ---- URI templates ---------------------------------------------------------------------------------------

_EXPRESSION = re.compile(r"\{([+#./]?)([A-Za-z0-9_.]+(?:,[A-Za-z0-9_.]+)*)\}")
_QUERY = re.compile(r"\{\?([A-Za-z0-9_.]+(?:,[A-Za-z0-9_.]+)*)\}$")
_OPENERS = {"": "", "+": "", "#": "#", ".": ".", "/": "/"}
_SEPARATORS = {"": ",", "+": ",", "#": ",", ".": ".", "/": "/"}
_SEGMENT_END = frozenset("/?#")
_NO_END: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Hole:
    """A variable in a template; its value holds none of `end`."""

    name: str
    end: frozenset[str]


@dataclass(frozen=True, slots=True)
class UriTemplate:
    """A template cut into literal texts and variables; `query` names those of a `{?…}` at the end."""

    parts: tuple[str | _Hole, ...]
    query: frozenset[str]

    def match(self, uri: str) -> dict[str, str] | None:
        """The variables' values, percent-decoded, or None. Takes time in proportion to the URI, never more."""
        if len(uri) > LONGEST_URI:
            return None
        path, _, query = uri.partition("?") if self.query else (uri, "", "")
        found = _matched(self.parts, path)
        if found is None:
            return None
        asked = {
            name: value for name, value in parse_qsl(query, keep_blank_values=True) if name in self.query
        }
        return asked | {name: unquote(value) for name, value in found.items()}

    @property
    def variables(self) -> tuple[str, ...]:
        return (*(part.name for part in self.parts if isinstance(part, _Hole)), *sorted(self.query))


@lru_cache(maxsize=4_096)
def parse_uri_template(template: str) -> UriTemplate:
    """Understands `{a}`, `{+a}`, `{#a}`, `{.a}`, `{/a}`, lists of names and a closing `{?a,b}` (RFC 6570).

    Raises ValueError with a sentence for anything else.
    """
    ending = _QUERY.search(template)
    query = frozenset(ending[1].split(",")) if ending else frozenset()
    body = template[: ending.start()] if ending else template
    parts: list[str | _Hole] = []
    position = 0
    for match in _EXPRESSION.finditer(body):
        parts.append(body[position : match.start()])
        parts.extend(_holes(match[1], match[2].split(",")))
        position = match.end()
    parts.append(body[position:])
    if any(isinstance(part, str) and ("{" in part or "}" in part) for part in parts):
        raise ValueError("The URI template holds an expression that is not supported; use {name} or {+name}.")
    compiled = UriTemplate(tuple(part for part in parts if part != ""), query)
    if len(compiled.variables) > MAX_VARIABLES:
        raise ValueError(f"A URI template names at most {MAX_VARIABLES} variables.")
    if len(set(compiled.variables)) < len(compiled.variables) or not compiled.variables:
        raise ValueError("A URI template names at least one variable, and each of them once.")
    return compiled


def match_uri_template(template: str, uri: str) -> dict[str, str] | None:
    """The values with which `template` gives `uri`, percent-decoded, or None. Raise ValueError for no template."""
    return parse_uri_template(template).match(uri)


def _holes(operator: str, names: list[str]) -> Iterable[str | _Hole]:
    end = _NO_END if operator in {"+", "#"} else _SEGMENT_END
    for index, name in enumerate(names):
        yield _SEPARATORS[operator] if index else _OPENERS[operator]
        yield _Hole(name, end)


def _matched(parts: tuple[str | _Hole, ...], uri: str) -> dict[str, str] | None:
    """Walk all ways of matching at once: after each part, the set of positions it can have ended at.

    Trying one way after the other, as regular expressions do, takes ages on URIs made for it.
    """
    reached = [[True] + [False] * len(uri)]
    for part in parts:
        ends = (
            _after_text(part, uri, reached[-1])
            if isinstance(part, str)
            else _after_hole(part, uri, reached[-1])
        )
        reached.append(ends)
    return _values(parts, uri, reached) if reached[-1][-1] else None


def _after_text(text: str, uri: str, starts: list[bool]) -> list[bool]:
    ends = [False] * len(starts)
    position = uri.find(text)
    while position >= 0:
        if starts[position]:
            ends[position + len(text)] = True
        position = uri.find(text, position + 1)
    return ends


def _after_hole(hole: _Hole, uri: str, starts: list[bool]) -> list[bool]:
    ends = [False] * len(starts)
    inside = False
    for position, character in enumerate(uri):
        inside = (inside or starts[position]) and character not in hole.end
        ends[position + 1] = inside
    return ends


def _values(parts: tuple[str | _Hole, ...], uri: str, reached: list[list[bool]]) -> dict[str, str]:
    """Go back from the end; of several ways, take the one in which earlier variables are shorter."""
    values: dict[str, str] = {}
    end = len(uri)
    for part, starts in zip(reversed(parts), reversed(reached[:-1]), strict=True):
        if isinstance(part, str):
            end -= len(part)
            continue
        start = _earliest(part, uri, starts, end)
        values[part.name] = uri[start:end]
        end = start
    return values


def _earliest(hole: _Hole, uri: str, starts: list[bool], end: int) -> int:
    found = position = end - 1
    while position >= 0 and uri[position] not in hole.end:
        found = position if starts[position] else found
        position -= 1
    return found
