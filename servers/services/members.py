"""The servers a composition is made of, and which of them are missing: for people to see before callers do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from servers.models import Channel, Server, Version

LIVE = "live"


@dataclass(frozen=True, slots=True)
class Part:
    """One member of the draft. `missing` is why nothing of it can be served, or ""."""

    slug: str
    channel: str
    prefix: str
    missing: str


def members_of(server: Server) -> list[Part]:
    """Those of the draft, in their order."""
    return [
        Part(
            wanted["server"],
            wanted.get("channel", LIVE),
            wanted.get("prefix", ""),
            _missing(server, wanted),
        )
        for wanted in server.members
    ]


def _missing(whole: Server, wanted: Mapping[str, Any]) -> str:
    slug, channel = wanted["server"], wanted.get("channel", LIVE)
    found = Server.objects.filter(tenant_id=whole.tenant_id, slug=slug, deleted_at__isnull=True).first()
    if found is None or found.id == whole.id:
        return "There is no such server."
    served = Channel.objects.filter(server=found, name=channel).select_related("version").first()
    version = served.version if served else Version.objects.filter(server=found, number=channel).first()
    if version is None:
        return f"Nothing is published on {channel}."
    return "It is made of others itself." if version.manifest.get("members") else ""


def candidates(server: Server, most: int = 500) -> list[Server]:
    """Servers of the organisation that may be members, by their names."""
    others = Server.objects.filter(tenant_id=server.tenant_id, deleted_at__isnull=True).exclude(id=server.id)
    return [other for other in others.order_by("slug")[:most] if not other.members]
