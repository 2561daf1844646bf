"""Looking into documents written by anybody: a part of the wrong type is as good as absent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def named(value: object) -> Iterator[tuple[str, Any]]:
    """The fields of a mapping that are neither vendor extensions nor oddly keyed."""
    for key, part in mapping(value).items():
        if isinstance(key, str) and not key.startswith("x-"):
            yield key, part


def shorten(value: str, limit: int) -> str:
    """At most `limit` characters, cut at a word where one ends nearby."""
    if len(value) <= limit:
        return value
    head = value[: limit - 1]
    at_word = head.rsplit(None, 1)[0] if any(c.isspace() for c in head[-40:]) else head
    return at_word.rstrip(" ,;:.") + "…"


def sentence(value: str) -> str:
    """With a full stop, so that another sentence can follow."""
    return value if value.endswith((".", "!", "?", "…")) else f"{value}."
