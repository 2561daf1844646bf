"""Slugs: names in URLs which never change and are never given out again."""

from __future__ import annotations

import re
import unicodedata

from mooring.errors import InvalidInput

SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
RESERVED = frozenset(
    "admin api app accounts static healthz health readyz ready metrics status oauth well-known t s new settings "
    "mooring www mail root null undefined".split()
)


def checked_slug(slug: str, *, what: str) -> str:
    """Return the slug or raise `InvalidInput` with a sentence that says what to write instead."""
    if not SLUG.fullmatch(slug):
        raise InvalidInput(
            f"The {what} name {slug[:80]!r} cannot stand in a URL. Use 1 to 63 lower-case letters, digits and "
            "hyphens, with no hyphen at either end.",
            fields={"slug": ["Use lower-case letters, digits and hyphens."]},
        )
    if slug in RESERVED:
        raise InvalidInput(
            f"{slug!r} is reserved. Choose another {what} name.", fields={"slug": ["This name is reserved."]}
        )
    return slug


def proposed_slug(name: str) -> str:
    """The slug a person would probably choose for this display name; may be empty."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:63].strip("-")
