"""What upstreams list: taken into the draft, pinned, and compared with what they list later."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from mooring.audit.record import Actor
from mooring.errors import Conflict, InvalidInput, NotFound
from servers import manifests
from servers.importers.remote import Found, Look, part_of
from servers.models import Channel, Server, UpstreamDefinition, UpstreamState, Version
from servers.services.drafts import Manifest, draft_manifest, replace_draft
from servers.services.publishing import publish
from servers.services.recording import locked, note

Json = dict[str, Any]
Key = tuple[str, str, str]  # source (`manifests.source_of`), section of the manifest, name or URI there
Listed = tuple[str, str]  # section, name or URI there
# What a person may have rewritten; a new definition does not take that back.
_REWRITTEN = ("title", "description", "annotations")
# What only we decide.
_OURS = ("name", "uri", "enabled", "cache", "completions")


@dataclass(frozen=True, slots=True)
class Drift:
    """A part whose upstream has changed its definition. `pinned` is None when that is not kept here."""

    upstream: str
    key: Key
    digest: str
    pinned: Json | None
    current: Json

    @property
    def section(self) -> str:
        return self.key[1]

    @property
    def name(self) -> str:
        return self.key[2]


def current_definitions(server: Server) -> dict[Key, str]:
    """Digests of what the server's upstreams list today, as far as they were looked at."""
    rows = UpstreamDefinition.objects.filter(server=server, is_current=True)
    return {key[:3]: key[3] for key in rows.values_list("source", "section", "name", "digest")}


def drifts_of(server: Server, manifest: Manifest | None = None) -> list[Drift]:
    """Parts of a manifest, of the draft unless given, that their upstreams define differently today."""
    rows = list(UpstreamDefinition.objects.filter(server=server))
    current = {(row.source, row.section, row.name): row for row in rows if row.is_current}
    kept = {(row.source, row.section, row.digest): row.definition for row in rows}
    found = []
    for key, part in remote_parts(manifest or draft_manifest(server)):
        row, pinned = current.get(key), part["remote"]["digest"]
        if row is not None and row.digest != pinned:
            was = kept.get((*key[:2], pinned))
            found.append(Drift(part["remote"]["upstream"], key, row.digest, was, row.definition))
    return found


def live_drifts(server: Server) -> list[Drift]:
    """Those that callers of `live` notice."""
    live = _live_version(server)
    return drifts_of(server, live.manifest) if live is not None else []


def record_look(state: UpstreamState, look: Look, *, actor: Actor) -> list[Drift]:
    """Remember what an upstream lists now. Returns what callers of `live` are newly kept from by that.

    What is no longer listed keeps its last definition, but not as the current one. Raises `NotFound`.
    """
    with transaction.atomic():
        held = locked(state.server)
        before = current_definitions(held)
        _remember(held, state.source, {(one.section, one.name): one for one in look.found})
        _say_of(state, look)
        changed = {key for key, digest in current_definitions(held).items() if before.get(key) != digest}
        drifts = [drift for drift in live_drifts(held) if drift.key in changed]
        if changed:
            parts = [f"{drift.section}: {drift.name}" for drift in drifts[:50]]
            note(
                held, "upstream.changed", actor=actor, after={"upstream": state.upstream, "held_back": parts}
            )
    return drifts


def _say_of(state: UpstreamState, look: Look) -> None:
    about = {
        "name": look.about.name[:200],
        "version": look.about.version[:100],
        "revision": look.about.revision,
        "instructions": look.about.instructions[:20_000],
        "problems": list(look.problems[:50]),
    }
    UpstreamState.objects.filter(id=state.id).update(
        looked_at=timezone.now(), about=manifests.storable(about), error=""
    )


def _remember(server: Server, source: str, listed: Mapping[Listed, Found]) -> None:
    rows = UpstreamDefinition.objects.filter(server=server, source=source)
    known = {(row.section, row.digest): row.id for row in rows.only("id", "section", "digest")}
    fresh, current = [], []
    for (section, name), one in listed.items():
        row = known.get((section, one.digest))
        if row is not None:
            current.append(row)
        elif len(name) <= 1_000 and manifests.is_storable(name):
            fresh.append(
                UpstreamDefinition(
                    tenant_id=server.tenant_id,
                    server=server,
                    source=source,
                    section=section,
                    name=name,
                    digest=one.digest,
                    definition=manifests.storable(one.definition),
                )
            )
    rows.exclude(id__in=current).update(is_current=False)
    rows.filter(id__in=current).update(is_current=True)
    UpstreamDefinition.objects.bulk_create(fresh, batch_size=200)
    _forget_unpinned(server, source)


def _forget_unpinned(server: Server, source: str) -> None:
    """Old definitions that nothing is pinned to are of no use, and there may be no end of them."""
    served = Version.objects.filter(server=server, retired_at__isnull=True).values_list("manifest", flat=True)
    pinned = {
        part["remote"]["digest"]
        for manifest in (draft_manifest(server), *served)
        for _, part in remote_parts(manifest)
    }
    old = UpstreamDefinition.objects.filter(server=server, source=source, is_current=False)
    old.exclude(digest__in=pinned).delete()


def take_parts(server: Server, *, actor: Actor, upstream: str, chosen: Collection[Listed]) -> list[str]:
    """Make the draft's parts of an upstream exactly those chosen, as they are listed today.

    What was taken before keeps the name and texts it was given here. Returns sentences on what could not be
    taken. Raises `NotFound` for what is not listed.
    """
    with transaction.atomic():
        held = locked(server)
        manifest = draft_manifest(held)
        refused = put_parts(held, manifest, upstream=upstream, chosen=chosen)
        replace_draft(held, manifest, actor=actor)
    server.refresh_from_db()
    return refused


def put_parts(
    server: Server, manifest: Manifest, *, upstream: str, chosen: Collection[Listed] | None
) -> list[str]:
    """Make the manifest's parts of an upstream those chosen, all that it lists when None. As `take_parts`."""
    rows = _listed(server, manifest, upstream)
    if strange := [name for name in chosen or () if name not in rows]:
        raise NotFound(f"The upstream lists no {strange[0][1][:200]!r} in its {strange[0][0][:30]}.")
    refused: list[str] = []
    for section in manifests.SECTIONS:
        listed = [row for key, row in rows.items() if key[0] == section and (chosen is None or key in chosen)]
        manifest[section] = _section(server, manifest, section, upstream, listed, refused)
    return refused


def _listed(server: Server, manifest: Manifest, upstream: str) -> dict[Listed, UpstreamDefinition]:
    if upstream not in manifest.get("upstreams", {}):
        raise NotFound("There is no upstream by that name.")
    source = manifests.source_of(manifest["upstreams"][upstream])
    # Ids grow with time, so this is the order in which the upstream lists them.
    rows = UpstreamDefinition.objects.filter(server=server, source=source, is_current=True).order_by("id")
    return {(row.section, row.name): row for row in rows}


def _section(
    server: Server,
    manifest: Manifest,
    section: str,
    upstream: str,
    listed: list[UpstreamDefinition],
    refused: list[str],
) -> list[Json]:
    """The section with exactly these parts of the upstream; what cannot be taken is told in `refused`."""
    wanted = {row.name: row for row in listed}
    kept = []
    for part in manifest.get(section, []):
        if part.get("remote", {}).get("upstream") != upstream:
            kept.append(part)
        elif row := wanted.pop(_name_there(section, part), None):
            kept.append(_adopted(part, row))
    taken = {part["name"] for part in kept}
    for row in wanted.values():
        part = part_of(section, row.definition, upstream=upstream, digest=row.digest, taken=taken)
        try:
            kept.append(manifests.check_part(section, part, within=manifest))
            taken.add(part["name"])
        except InvalidInput as error:
            refused.append(f"{row.name[:200]}: {error.message}")
    return kept


def _adopted(part: Json, row: UpstreamDefinition) -> Json:
    """The part with the upstream's new definition; texts that a person rewrote stay."""
    remote, section = part["remote"], row.section
    new = part_of(section, row.definition, upstream=remote["upstream"], digest=row.digest)
    # Of whichever source: a digest says all of a definition, and code that was built anew is another source.
    pinned = UpstreamDefinition.objects.filter(
        server=row.server_id, section=section, digest=remote["digest"]
    ).first()
    old = part_of(section, pinned.definition, upstream="", digest="") if pinned is not None else {}
    ours = {name: part[name] for name in _REWRITTEN if name in part and part[name] != old.get(name)}
    settings = {name: part[name] for name in _OURS if name in part}
    kept = {name: remote[name] for name in ("timeout_seconds",) if name in remote}
    return new | settings | ours | {"remote": new["remote"] | kept}


def accept_drift(
    server: Server, *, actor: Actor, upstream: str, section: str, name: str, digest: str
) -> Version | None:
    """Pin what the upstream says today, in the draft and, when `live` serves that part, in a new version of it.

    Only that part changes: what else the draft has that `live` has not waits for its own publishing. Raises
    `Conflict` when the upstream has changed it again since `digest`, and `NotFound`.
    """
    with transaction.atomic():
        held = locked(server)
        draft, live = draft_manifest(held), _live_version(held)
        row = _listed(held, draft, upstream).get((section, name))
        if row is None:
            raise NotFound("The upstream does not list this any more.")
        if row.digest != digest:
            raise Conflict(
                "The upstream has changed this again. Look at the difference anew.", code="changed_again"
            )
        replace_draft(held, _with_adopted(draft, row), actor=actor)
        published = None
        if live is not None and any(drift.key == (row.source, section, name) for drift in live_drifts(held)):
            notes = f"Accepts what {upstream} changed of {name[:200]}."
            published = publish(held, actor=actor, manifest=_with_adopted(live.manifest, row), notes=notes)
    server.refresh_from_db()
    return published


def _with_adopted(manifest: Manifest, row: UpstreamDefinition) -> Manifest:
    wanted = (row.source, row.section, row.name)
    keys = {id(part): key for key, part in remote_parts(manifest)}
    parts = [
        _adopted(part, row) if keys.get(id(part)) == wanted else part
        for part in manifest.get(row.section, [])
    ]
    return manifest | {row.section: parts}


def _live_version(server: Server) -> Version | None:
    live = Channel.objects.filter(server=server, name="live").select_related("version").first()
    return live.version if live is not None else None


def remote_parts(manifest: Manifest) -> Iterator[tuple[Key, Json]]:
    """The parts of a manifest that come from elsewhere, and where from."""
    sources = {name: manifests.source_of(one) for name, one in manifest.get("upstreams", {}).items()}
    for section in manifests.SECTIONS:
        for part in manifest.get(section, []):
            if "remote" in part:
                yield (sources[part["remote"]["upstream"]], section, _name_there(section, part)), part


def _name_there(section: str, part: Json) -> str:
    if section == "resource_templates":
        return str(part["uri_template"])
    return str(part["remote"]["uri" if section == "resources" else "name"])
