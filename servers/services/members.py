"""The servers a composition is made of, and which of them are missing: for people to see before callers do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from servers.models import Channel, Server, Version
from servers.services.health import unhealthy_upstreams

LIVE = "live"


@dataclass(frozen=True, slots=True)
class Part:
    """One member of the draft. `missing` is why nothing of it can be served, or ""; `down` names what it depends on
    and what does not answer.
    """

    slug: str
    channel: str
    prefix: str
    missing: str
    down: list[str]


def members_of(server: Server) -> list[Part]:
    """Those of the draft, in their order."""
    return [_part(server, wanted) for wanted in server.members]


def _part(whole: Server, wanted: Mapping[str, Any]) -> Part:
    slug, channel = wanted["server"], wanted.get("channel", LIVE)
    found = Server.objects.filter(tenant_id=whole.tenant_id, slug=slug, deleted_at__isnull=True).first()
    if found is None or found.id == whole.id:
        return Part(slug, channel, wanted.get("prefix", ""), "There is no such server.", [])
    down = unhealthy_upstreams(found, channel)
    return Part(slug, channel, wanted.get("prefix", ""), _missing(found, channel), down)


def _missing(found: Server, channel: str) -> str:
    served = Channel.objects.filter(server=found, name=channel).select_related("version").first()
    version = served.version if served else Version.objects.filter(server=found, number=channel).first()
    if version is None:
        return f"Nothing is published on {channel}."
    return "It is made of others itself." if version.manifest.get("members") else ""


def candidates(server: Server, most: int = 500) -> list[Server]:
    """Servers of the organisation that may be members, by their names."""
    others = Server.objects.filter(tenant_id=server.tenant_id, deleted_at__isnull=True).exclude(id=server.id)
    return [other for other in others.order_by("slug")[:most] if not other.members]
