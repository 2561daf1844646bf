"""Where a server stands: what is live, whether the draft has moved on, what it still needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count

from servers import manifests
from servers.models import Channel, Server, Tool, Version
from servers.services import draft_manifest, missing_secrets, missing_variables

LIVE = "live"
_SECTIONS = ("tools", "resources", "resource_templates", "prompts")


@dataclass(frozen=True, slots=True)
class Standing:
    live: Version | None
    has_changes: bool
    missing: tuple[str, ...] = ()
    missing_variables: tuple[str, ...] = ()
    tools: int = 0
    is_empty: bool = False

    @property
    def word(self) -> str:
        if self.live is None:
            return "draft"
        if self.missing:
            return "needs secrets"
        if self.missing_variables:
            return "needs values"
        return "changes in draft" if self.has_changes else "live"

    @property
    def colour(self) -> str:
        return {"draft": "", "changes in draft": "info", "live": "good"}.get(self.word, "warn")


def live_version(server: Server) -> Version | None:
    channel = Channel.objects.filter(server=server, name=LIVE).select_related("version").first()
    return channel.version if channel else None


def standing_of(server: Server) -> Standing:
    """Exact: the draft's digest is compared with the live version's."""
    live, draft = live_version(server), draft_manifest(server)
    return Standing(
        live,
        has_changes=live is None or manifests.digest(draft) != live.digest,
        missing=tuple(missing_secrets(server)),
        missing_variables=tuple(missing_variables(server)),
        tools=len(draft.get("tools", [])),
        is_empty=not any(draft.get(section) for section in _SECTIONS),
    )


def standings(servers: Iterable[Server]) -> dict[UUID, Standing]:
    """For lists, in three queries: a draft touched after the live version was made counts as changed."""
    listed = list(servers)
    channels = (
        Channel.objects.filter(server__in=listed, name=LIVE)
        .select_related("version")
        .defer("version__manifest")
    )
    live = {channel.server_id: channel.version for channel in channels}
    counted = (
        Tool.objects.filter(server__in=listed).order_by().values("server_id").annotate(tools=Count("id"))
    )
    tools = {row["server_id"]: row["tools"] for row in counted}
    return {server.id: _listed(server, live.get(server.id), tools.get(server.id, 0)) for server in listed}


def _listed(server: Server, live: Version | None, tools: int) -> Standing:
    return Standing(live, live is None or server.changed_at > live.created_at, tools=tools)
