"""The revisions of MCP and what each can carry (protocol.md of the specification, "Versioning")."""

from __future__ import annotations

from dataclasses import dataclass

MODERN = "2026-07-28"
NEWEST_HANDSHAKE = "2025-11-25"
HANDSHAKE = ("2025-11-25", "2025-06-18", "2025-03-26")
SUPPORTED = (MODERN, *HANDSHAKE)
WITH_BATCHES = ("2025-03-26",)
# What a handshake client speaks that never sends the version header (spec 2025-06-18, transports).
ASSUMED = "2025-03-26"


@dataclass(frozen=True, slots=True)
class Features:
    """What a revision's schema has room for."""

    titles: bool
    structured: bool
    structured_any: bool
    resource_links: bool
    icons: bool
    error_without_id: bool
    caching: bool


FEATURES = {
    "2025-03-26": Features(False, False, False, False, False, False, False),
    "2025-06-18": Features(True, True, False, True, False, False, False),
    "2025-11-25": Features(True, True, False, True, True, True, False),
    MODERN: Features(True, True, True, True, True, True, True),
}


def negotiated(requested: str) -> str:
    """The revision a handshake settles on: the one asked for, else the newest handshake revision."""
    return requested if requested in HANDSHAKE else NEWEST_HANDSHAKE


def is_modern_header(version: str) -> bool:
    """Dates sort as text, so a revision newer than ours counts as modern too."""
    return len(version) == 10 and version >= MODERN
