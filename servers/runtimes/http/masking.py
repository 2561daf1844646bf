"""Keeping secrets out of answers, whatever an upstream echoes."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec

from servers.runtimes.http.placing import cookie_text

HIDDEN = "•••"
# Shorter ones would blot out ordinary words and numbers of every answer; they protect nothing anyway.
SHORTEST = 4


class Mask:
    """Replaces secrets, also as they stand in JSON text, HTML, addresses, forms and cookies."""

    def __init__(self, secrets: Iterable[str]) -> None:
        values = {value for secret in secrets for value in (secret, secret.strip()) if len(value) >= SHORTEST}
        forms = {form for value in values for form in _forms(value)}
        # Longest first, so that a secret that holds another one disappears whole.
        self._needles = sorted(forms, key=len, reverse=True)
        self._in_json = sorted({_json_text(form) for form in forms}, key=len, reverse=True)
        self._in_bytes = [needle.encode() for needle in self._needles]

    def text(self, text: str) -> str:
        for needle in self._needles:
            if needle in text:
                text = text.replace(needle, HIDDEN)
        return text

    def data(self, body: bytes) -> bytes:
        for needle in self._in_bytes:
            if needle in body:
                body = body.replace(needle, b"*" * len(needle))
        return body

    def json(self, value: Any, text: str) -> tuple[Any, str]:
        """A JSON value and its compact text, which tells at once that there is nothing to hide."""
        if not any(needle in text for needle in self._in_json):
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
            return HIDDEN if any(needle in str(value) for needle in self._needles) else value
        return value


def _forms(value: str) -> Iterable[str]:
    # `_json_text` of each is taken too: JSON inside a string of JSON has its quotes escaped twice.
    encoded = (quote(value, safe=""), quote_plus(value), cookie_text(value))
    return (value, _json_text(value), escape(value), *encoded)


def _json_text(value: str) -> str:
    return msgspec.json.encode(value).decode()[1:-1]
