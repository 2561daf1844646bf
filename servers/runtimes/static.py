"""Tools that need nothing but themselves, and the texts of resources, templates and prompts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote
from zoneinfo import ZoneInfo

import msgspec

from servers.runtimes.base import Outcome, ToolBinding, ToolCall, text_outcome

COMPLETIONS = 100
LONGEST_URI = 2_048
MAX_VARIABLES = 10
MAX_QUERY_FIELDS = 100
# What trying one URI on a server's templates may take, on the event loop, by the estimate of `Subject`. Five
# hundred templates that begin alike, with three variables and fifteen letters between them, stay below it.
MAX_NANOSECONDS = 2_500_000

T = TypeVar("T")
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


class TooManySteps(ValueError):
    """There are too many templates to try on so long a URI."""


class _Places(dict[str, int]):
    """Where each character stands in a text, as numbers: bit n for the character after n others."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._length = len(text)
        self._positions: dict[str, list[int]] = {}
        for position, character in enumerate(text):
            self._positions.setdefault(character, []).append(position)

    def __missing__(self, character: str) -> int:
        # Digits of a number to be: setting the bits of a long number one by one takes fifty times as long.
        digits = bytearray(b"0" * (self._length + 1))
        for position in self._positions.get(character, ()):
            digits[-1 - position] = ord("1")
        self[character] = places = int(digits, 2)
        return places


class Subject:
    """A URI that templates are tried on, one after the other, with what they share.

    A set of positions is a number whose bits say where. `places` has those of each character.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.places = _Places(uri)
        self._free: dict[frozenset[str], int] = {}
        # A step takes 100 ns, and one more for each twenty characters (measured).
        self._steps = MAX_NANOSECONDS // (100 + len(uri) // 20)

    def spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise TooManySteps("There are too many templates to find so long a URI among. Use a shorter one.")

    def free(self, end: frozenset[str]) -> int:
        """Where a character stands that is none of `end`."""
        free = self._free.get(end)
        if free is None:
            free = (1 << len(self.uri)) - 1
            for character in end:
                free &= ~self.places[character]
            self._free[end] = free
        return free


@dataclass(frozen=True, slots=True)
class UriTemplate:
    """A template cut into literal texts and variables; `query` names those of a `{?…}` at the end.

    `prefix` is the text before the first variable, and `steps` what walking the parts after it takes.
    """

    prefix: str
    parts: tuple[str | _Hole, ...]
    query: frozenset[str]
    steps: int

    def match(self, subject: Subject) -> dict[str, str] | None:
        """The variables' values, percent-decoded, or None. Raises `TooManySteps` when the subject has had enough."""
        uri = subject.uri
        end = uri.find("?") if self.query else -1
        end = len(uri) if end < 0 else end
        last = self.parts[-1] if self.parts else ""
        if not uri.startswith(self.prefix) or (isinstance(last, str) and not uri.endswith(last, 0, end)):
            return None
        if uri.count("&", end) >= MAX_QUERY_FIELDS:
            return None
        subject.spend(self.steps)
        found = _matched(self.parts, subject, len(self.prefix), end)
        if found is None:
            return None
        fields = parse_qsl(uri[end + 1 :], keep_blank_values=True)
        asked = {name: value for name, value in fields if name in self.query}
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
    prefix, *rest = parts
    compiled = UriTemplate(str(prefix), tuple(part for part in rest if part != ""), query, _steps(rest))
    if len(compiled.variables) > MAX_VARIABLES:
        raise ValueError(f"A URI template names at most {MAX_VARIABLES} variables.")
    if len(set(compiled.variables)) < len(compiled.variables) or not compiled.variables:
        raise ValueError("A URI template names at least one variable, and each of them once.")
    return compiled


def match_uri_template(template: str, uri: str) -> dict[str, str] | None:
    """The values with which `template` gives `uri`, percent-decoded, or None. Raise ValueError for no template."""
    found = first_match([(parse_uri_template(template), None)], uri)
    return None if found is None else found[1]


def first_match(templates: Iterable[tuple[UriTemplate, T]], uri: str) -> tuple[T, dict[str, str]] | None:
    """What belongs to the first template that gives `uri`, and the variables' values; None when there is none.

    Takes time in proportion to the URI and to `MAX_NANOSECONDS`, and raises `TooManySteps` before it takes more.
    """
    if len(uri) > LONGEST_URI:
        return None
    subject = Subject(uri)
    for template, what in templates:
        values = template.match(subject)
        if values is not None:
            return what, values
    return None


def _steps(parts: Iterable[str | _Hole]) -> int:
    return 1 + sum(len(part) if isinstance(part, str) else 4 for part in parts)


def _holes(operator: str, names: list[str]) -> Iterable[str | _Hole]:
    end = _NO_END if operator in {"+", "#"} else _SEGMENT_END
    for index, name in enumerate(names):
        yield _SEPARATORS[operator] if index else _OPENERS[operator]
        yield _Hole(name, end)


def _matched(parts: tuple[str | _Hole, ...], subject: Subject, start: int, end: int) -> dict[str, str] | None:
    """Walk all ways of matching at once: after each part, the set of positions it can have ended at.

    Trying one way after the other, as regular expressions do, takes ages on URIs made for it.
    """
    reached = [1 << start]
    for part in parts:
        ends = (
            _after_text(part, subject, reached[-1])
            if isinstance(part, str)
            else _after_hole(part, subject, reached[-1])
        )
        if not ends:
            return None
        reached.append(ends)
    return _values(parts, subject, reached, end) if reached[-1] >> end & 1 else None


def _after_text(text: str, subject: Subject, starts: int) -> int:
    places = subject.places
    for character in text:
        starts = (starts & places[character]) << 1
        if not starts:
            break
    return starts


def _after_hole(hole: _Hole, subject: Subject, starts: int) -> int:
    """From each start on, all that is free. Adding carries from a start to the end of its free run."""
    free = subject.free(hole.end)
    starts &= free
    return (((free + starts) ^ free | starts) & free) << 1


def _values(parts: tuple[str | _Hole, ...], subject: Subject, reached: list[int], end: int) -> dict[str, str]:
    """Go back from the end; of several ways, take the one in which earlier variables are shorter."""
    values: dict[str, str] = {}
    for part, starts in zip(reversed(parts), reversed(reached[:-1]), strict=True):
        if isinstance(part, str):
            end -= len(part)
            continue
        start = _earliest(part, subject, starts, end)
        values[part.name] = subject.uri[start:end]
        end = start
    return values


def _earliest(hole: _Hole, subject: Subject, starts: int, end: int) -> int:
    """The first start from which all is free up to `end`."""
    before = (1 << end) - 1
    blocked = (before & ~subject.free(hole.end)).bit_length()
    possible = (starts & before) >> blocked << blocked
    return (possible & -possible).bit_length() - 1
