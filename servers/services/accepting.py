"""What a build gave, taken into the draft."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from mooring.audit.record import Actor
from mooring.errors import Conflict, NotFound
from servers import manifests
from servers.models import Build
from servers.services.artifacts import remember_offers
from servers.services.drafts import draft_manifest, replace_draft
from servers.services.drift import Listed, put_parts
from servers.services.recording import locked, note
from servers.services.upstreams import keep_states, needed_secrets


def accept_build(
    build: Build,
    *,
    actor: Actor,
    chosen: Collection[Listed] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[str]:
    """Let the draft run what a build gave, and take the chosen parts of it (all when None), pinned as they are.

    `settings` are hosts, environment, memory_mb and mode; else those it was built with hold, and the mode it asks
    for. Returns sentences on what could not be taken. Raises `Conflict`, `InvalidInput` and `NotFound`.
    """
    with transaction.atomic():
        held = locked(build.server)
        fresh = Build.objects.select_related("job").filter(id=build.id).first()
        if fresh is None:
            raise NotFound("There is no such build any more. Upload the code again.")
        if not fresh.artifact:
            raise Conflict("This build has given nothing to accept.", code="build_unfinished")
        before = held.upstreams.get(fresh.upstream, {})
        if "url" in before:
            raise Conflict(f"The upstream {fresh.upstream} is a server elsewhere now.", code="not_code")
        definition = {
            "mode": fresh.offer.get("mode", "shared"),
            **({"on_change": before["on_change"]} if "on_change" in before else {}),
            **fresh.settings,
            **(settings or {}),
            "code": fresh.artifact,
        }
        manifest = draft_manifest(held)
        manifest["secrets"] = needed_secrets(held, definition)
        checked = manifests.check_upstream(definition, within=manifest)
        manifest["upstreams"] = manifest.get("upstreams", {}) | {fresh.upstream: checked}
        remember_offers(held, {manifests.source_of(checked): checked})
        refused = put_parts(held, manifest, upstream=fresh.upstream, chosen=chosen)
        if not held.instructions and fresh.offer.get("instructions"):
            manifest["server"]["instructions"] = fresh.offer["instructions"]
        replace_draft(held, manifest, actor=actor)
        held.refresh_from_db()
        keep_states(held)
        Build.objects.filter(id=fresh.id).update(accepted_at=timezone.now())
        note(held, "build.accepted", actor=actor, after={"upstream": fresh.upstream, "code": fresh.artifact})
    build.refresh_from_db(fields=["accepted_at"])
    return refused
