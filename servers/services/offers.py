"""What upstreams offer, what of it the draft takes, and what of that has changed: for people and programs to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, QuerySet

from servers import manifests
from servers.importers.remote import warnings_of
from servers.models import Server, UpstreamDefinition, UpstreamState
from servers.services.drafts import draft_manifest
from servers.services.drift import Drift, Listed, drifts_of, live_drifts, remote_parts

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Upstream:
    """One that the draft declares. `listed` and `taken` count parts; `changed` those to be looked at anew."""

    name: str
    definition: Json
    state: UpstreamState | None
    listed: int = 0
    taken: int = 0
    changed: int = 0

    @property
    def keeps_serving(self) -> bool:
        return bool(self.definition.get("on_change") == "serve")

    @property
    def looked_at(self) -> datetime | None:
        return self.state.looked_at if self.state is not None else None

    @property
    def is_looking(self) -> bool:
        job = self.state.job if self.state is not None else None
        return job is not None and not job.is_finished


@dataclass(frozen=True, slots=True)
class Change:
    """A part an upstream defines differently now. `is_live`: callers notice, since calls of it are held back."""

    drift: Drift
    is_live: bool
    in_draft: bool


def upstreams_of(server: Server, changes: Sequence[Change] | None = None) -> list[Upstream]:
    """Those of the draft, in their order. `changes` is what `changes_of` gave, for who has asked it already."""
    draft = draft_manifest(server)
    states = UpstreamState.objects.filter(server=server).select_related("job")
    by_source = {state.source: state for state in states}
    rows = UpstreamDefinition.objects.filter(server=server, is_current=True)
    listed = {row["source"]: row["n"] for row in rows.values("source").annotate(n=Count("id"))}
    taken = Counter(key[0] for key, _ in remote_parts(draft))
    found = changes_of(server, draft) if changes is None else changes
    changed = Counter(change.drift.key[0] for change in found)
    return [
        Upstream(name, one, by_source.get(source), listed.get(source, 0), taken[source], changed[source])
        for name, one in draft.get("upstreams", {}).items()
        for source in [manifests.source_of(one)]
    ]


def changes_of(server: Server, draft: Json | None = None) -> list[Change]:
    """What `live` or the draft has pinned and is defined differently today; what callers notice comes first."""
    live = {drift.key: drift for drift in live_drifts(server)}
    drafted = {drift.key: drift for drift in drifts_of(server, draft)}
    found = [Change(drift, is_live=True, in_draft=key in drafted) for key, drift in live.items()]
    return found + [
        Change(drift, is_live=False, in_draft=True) for key, drift in drafted.items() if key not in live
    ]


def offered(server: Server, name: str) -> QuerySet[UpstreamDefinition]:
    """What an upstream of the draft listed when it was last looked at. A name that is not declared offers nothing."""
    rows: QuerySet[UpstreamDefinition] = UpstreamDefinition.objects.filter(server=server, is_current=True)
    if name not in server.upstreams:
        return rows.none()
    return rows.filter(source=manifests.source_of(server.upstreams[name])).order_by("section", "name", "id")


def parts_taken(server: Server, name: str) -> dict[Listed, Json]:
    """The draft's parts of an upstream, by section and the name they have there."""
    return {
        key[1:]: part
        for key, part in remote_parts(draft_manifest(server))
        if part["remote"]["upstream"] == name
    }


# ---- rows, as the API and the command line show them -----------------------------------------------------


def upstream_row(upstream: Upstream) -> Json:
    """`about` is what it says of itself; `job` is the state of the newest look: waiting, running, done, failed."""
    state = upstream.state
    return {
        "name": upstream.name,
        "definition": upstream.definition,
        "about": state.about if state is not None else {},
        "looked_at": upstream.looked_at,
        "error": state.error if state is not None else "",
        "job": state.job.state if state is not None and state.job is not None else None,
        "listed": upstream.listed,
        "taken": upstream.taken,
        "changed": upstream.changed,
    }


def part_row(row: UpstreamDefinition, part: Json | None) -> Json:
    """`name` is its name or URI there; `taken_as` its name in the draft, or None when it is not taken."""
    return {
        "section": row.section,
        "name": row.name,
        "digest": row.digest,
        "definition": row.definition,
        "taken_as": part["name"] if part is not None else None,
        "pinned": part["remote"]["digest"] if part is not None else None,
        "warnings": warnings_of(row.definition),
    }


def change_row(change: Change) -> Json:
    drift = change.drift
    return {
        "upstream": drift.upstream,
        "section": drift.section,
        "name": drift.name,
        "digest": drift.digest,
        "pinned": drift.pinned,
        "current": drift.current,
        "is_live": change.is_live,
        "in_draft": change.in_draft,
        "warnings": warnings_of(drift.current),
    }
