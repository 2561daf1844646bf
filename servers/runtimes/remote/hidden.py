"""Characters that a reader does not see, or that change what is seen: how an upstream could speak past people."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

HiddenKind = Literal["bidi", "tag", "zero-width", "ansi", "control", "variation"]

# A text full of them needs no longer list.
MOST = 200

# ECMA-48: a control sequence, a string with its end, or a short escape; also begun by their one-character forms.
_SEQUENCE = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{0,2000}(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_HIDDEN = re.compile(
    f"(?P<ansi>{_SEQUENCE})"
    "|(?P<control>[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u2028\u2029])"
    "|(?P<bidi>[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069])"
    "|(?P<tag>[\U000e0000-\U000e007f]+)"
    "|(?P<variation>[\ufe00-\ufe0f\U000e0100-\U000e01ef]+)"
    "|(?P<zero>[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufeff"
    "\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a])"
)
_NAMES = {"\x1b": "ESCAPE", "\x00": "NULL", "\x08": "BACKSPACE", "\x7f": "DELETE", "\r": "CARRIAGE RETURN"}
_JOINERS = "\u200c\u200d"
_STYLES = "\ufe0e\ufe0f"


@dataclass(frozen=True, slots=True)
class Hidden:
    """`position` and `length` count characters of the text. `name` says which ones, and what tags spell."""

    position: int
    length: int
    kind: HiddenKind
    name: str


def hidden_characters(text: str) -> list[Hidden]:
    """In the order of the text, the first 200. What scripts and emoji need in their ordinary use is not reported."""
    found: list[Hidden] = []
    for match in _HIDDEN.finditer(text):
        if _is_ordinary(text, match.start(), match.end()):
            continue
        found.append(Hidden(match.start(), len(match[0]), _kind(match), _name(match)))
        if len(found) == MOST:
            break
    return found


def _kind(match: re.Match[str]) -> HiddenKind:
    kinds: dict[str, HiddenKind] = {
        "ansi": "ansi",
        "control": "control",
        "bidi": "bidi",
        "tag": "tag",
        "variation": "variation",
    }
    return kinds.get(match.lastgroup or "", "zero-width")


def _name(match: re.Match[str]) -> str:
    text = match[0]
    if match.lastgroup == "tag":
        spelt = "".join(chr(ord(character) - 0xE0000) for character in text)
        return f"TAG characters spelling {spelt[:200]!r}"
    if match.lastgroup == "ansi":
        return f"ANSI escape sequence {text[:40]!r}"
    name = _NAMES.get(text[0]) or unicodedata.name(text[0], "CONTROL CHARACTER")
    return f"U+{ord(text[0]):04X} {name}" + (f" and {len(text) - 1} more" if len(text) > 1 else "")


def _is_ordinary(text: str, start: int, end: int) -> bool:
    """A joiner between letters of a script that joins, or in an emoji; the style of one emoji."""
    if end - start != 1 or start == 0:
        return False
    character, before = text[start], text[start - 1]
    after = text[end] if end < len(text) else ""
    if character in _STYLES:
        return _is_symbol(before) or (before in "#*0123456789" and after == "\u20e3")
    if character in _JOINERS and after:
        is_script = _joins(before) and _joins(after)
        is_emoji = character == "\u200d" and _is_symbol(after) and (_is_symbol(before) or before in _STYLES)
        return is_script or is_emoji
    return False


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character) in ("So", "Sk", "Sm", "Po") and ord(character) > 0x7F


def _joins(character: str) -> bool:
    """Letters and marks of scripts without case: Arabic, Devanagari and their like."""
    return unicodedata.category(character) in ("Lo", "Mn", "Mc")
