"""What a channel may be called, and the values it gives to a manifest's variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mooring.errors import InvalidInput

_CHANNEL = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
LIVE, DRAFT = "live", "draft"
MAX_VALUE = 2_000


def check_channel(name: str) -> None:
    if not _CHANNEL.fullmatch(name) or name == DRAFT:
        raise InvalidInput(
            f"{name[:80]!r} cannot name a channel. Start with a letter; use lower-case letters, digits and "
            "hyphens; 'draft' is taken by the draft itself.",
            fields={"channel": ["Use lower-case letters, digits and hyphens."]},
        )


def check_values(declared: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """Values for declared variables; empty ones are left to the manifest's default. Raises `InvalidInput`."""
    problems: dict[str, list[str]] = {}
    for name, value in values.items():
        if name not in declared:
            known = ", ".join(declared) or "none"
            problems[name] = [f"The version has no variable {name!r}; it has {known}."]
        elif not isinstance(value, str) or len(value) > MAX_VALUE or not value.isprintable():
            problems[name] = [f"Give {name!r} one line of text, at most {MAX_VALUE} characters."]
    if problems:
        raise InvalidInput(next(iter(problems.values()))[0], fields=problems)
    return {name: value.strip() for name, value in values.items() if value.strip()}
