"""Keeping secrets out of answers, whatever an upstream echoes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html.entities import codepoint2name
from itertools import groupby
from typing import Any

import msgspec

HIDDEN = "•••"
# Shorter ones would blot out ordinary words and numbers of every answer; they cannot be set.
SHORTEST = 4

_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+")
# How often a backslash or percent sign may be escaped again: JSON inside JSON inside JSON. Bounded, so that
# looking stays linear in the text.
_BACKSLASHES = r"\\{0,16}"
_PERCENT = "%(?:25){0,3}"
_LETTERS = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


class Mask:
    """Replaces secrets, also as they stand in JSON, addresses, forms, cookies and HTML."""

    def __init__(self, secrets: Iterable[str]) -> None:
        values = {value for secret in secrets for value in (secret, secret.strip()) if len(value) >= SHORTEST}
        # Longest first, so that a secret that holds another one disappears whole.
        self._needles = [_needle(value) for value in sorted(values, key=len, reverse=True)]

    def text(self, text: str) -> str:
        for needle in self._needles:
            if needle.core in text:
                text = needle.pattern.sub(HIDDEN, text)
        return text

    def data(self, body: bytes) -> bytes:
        for needle in self._needles:
            if needle.core.encode() in body:
                body = needle.in_bytes.sub(b"***", body)
        return body

    def json(self, value: Any, text: str) -> tuple[Any, str]:
        """A JSON value and its compact text, which tells at once that there is nothing to hide."""
        if not any(needle.core in text and needle.pattern.search(text) for needle in self._needles):
            return value, text
        value = self._walked(value)
        return value, msgspec.json.encode(value).decode()

    def _walked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._walked(item) for item in value]
        if isinstance(value, dict):
            return {self.text(key): self._walked(item) for key, item in value.items()}
        if isinstance(value, int | float):
            return value if self.text(str(value)) == str(value) else HIDDEN
        return value


@dataclass(frozen=True, slots=True)
class _Needle:
    """`core` stands in every form of the secret and is quick to look for; "" when nothing in it is safe."""

    core: str
    pattern: re.Pattern[str]
    in_bytes: re.Pattern[bytes]


def _needle(secret: str) -> _Needle:
    pattern = "".join(_any_form(character, len(list(run))) for character, run in groupby(secret))
    core = max(_UNRESERVED.findall(secret), key=len, default="")
    return _Needle(core, re.compile(pattern), re.compile(pattern.encode()))


def _any_form(character: str, times: int) -> str:
    """A pattern for `times` of this character, raw and escaped in every way in use."""
    if _UNRESERVED.fullmatch(character):
        return re.escape(character) * times
    if character == "\\":  # counted as one run: each of them may be doubled again and again
        return rf"(?:\\{{{times},{16 * times}}}|(?:{_escapes(character)}){{{times}}})"
    letter = rf"|\\{{1,16}}{_LETTERS[character]}" if character in _LETTERS else ""
    space = r"|\+" if character == " " else ""
    return f"(?:{_BACKSLASHES}{re.escape(character)}|{_escapes(character)}{letter}{space}){{{times}}}"


def _escapes(character: str) -> str:
    code = ord(character)
    utf16 = character.encode("utf-16-be", "surrogatepass")
    units = (utf16[index : index + 2].hex() for index in range(0, len(utf16), 2))
    forms = [
        "".join(rf"\\{{1,16}}u(?i:{unit})" for unit in units),
        "".join(f"{_PERCENT}(?i:{byte:02x})" for byte in character.encode("utf-8", "surrogatepass")),
        f"&#0{{0,4}}{code};",
        f"&#[xX]0{{0,4}}(?i:{code:x});",
    ]
    if code in codepoint2name:
        forms.append(f"&{codepoint2name[code]};")
    return "|".join(forms)
