"""What a draft takes parts from: MCP servers elsewhere, looked at for what they list, and code that was uploaded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from mooring import jobs
from mooring.audit.record import Actor
from mooring.errors import Conflict, InvalidInput, NotFound
from servers import manifests
from servers.models import Channel, Server, UpstreamDefinition, UpstreamState
from servers.runtimes.http.values import NotReady, Values
from servers.runtimes.remote.configured import endpoint_of
from servers.runtimes.remote.endpoint import Endpoint
from servers.services.artifacts import refuse_strange_code, remember_offers
from servers.services.drafts import draft_manifest, replace_draft, settings_manifest
from servers.services.recording import count_draft_change, locked, note
from servers.services.secrets import secrets_of

LOOK = "upstream.look"
LOOK_EVERY = timedelta(minutes=10)
Json = dict[str, Any]


def save_upstream(server: Server, *, actor: Actor, name: str, definition: Mapping[str, Any]) -> None:
    """Declare an upstream in the draft, or change it. Secrets it names are added to those the server needs.

    Raises `InvalidInput` with every problem under `data["fields"]`.
    """
    check_name(name)
    with transaction.atomic():
        held = locked(server)
        secrets = needed_secrets(held, definition)
        checked = manifests.check_upstream(definition, within=settings_manifest(held) | {"secrets": secrets})
        before = held.upstreams.get(name)
        if before == checked:
            return
        refuse_strange_code(held, {name: checked})
        if before is None and len(held.upstreams) >= manifests.MOST_UPSTREAMS:
            raise Conflict(
                f"A server has at most {manifests.MOST_UPSTREAMS} upstreams.", code="too_many_upstreams"
            )
        held.upstreams = held.upstreams | {name: checked}
        held.secrets_needed = secrets
        count_draft_change(held, seen=server, also=("upstreams", "secrets_needed"))
        keep_states(held)
        note(server, "upstream.saved", actor=actor, before=before and {name: before}, after={name: checked})


def check_name(name: str) -> None:
    """Raises `InvalidInput`."""
    if not manifests.is_upstream_name(name):
        raise InvalidInput(
            f"{name[:80]!r} cannot name an upstream. Start with a letter; use lower-case letters, digits and "
            "hyphens, at most 32.",
            fields={"name": ["Use lower-case letters, digits and hyphens."]},
        )


def needed_secrets(server: Server, definition: Mapping[str, Any]) -> dict[str, Any]:
    """The secrets the draft declares, and those this upstream names."""
    named = manifests.secrets_named(definition)
    declared: dict[str, Any] = server.secrets_needed
    return declared | {name: declared.get(name, {}) for name in named}


def delete_upstream(server: Server, *, actor: Actor, name: str) -> None:
    """Take an upstream out of the draft, with every part that came from it. Raises `NotFound`."""
    with transaction.atomic():
        held = locked(server)
        if name not in held.upstreams:
            raise NotFound("There is no upstream by that name.")
        manifest = draft_manifest(held)
        manifest["upstreams"] = {key: one for key, one in held.upstreams.items() if key != name}
        for section in manifests.SECTIONS:
            parts = manifest.get(section, [])
            manifest[section] = [part for part in parts if part.get("remote", {}).get("upstream") != name]
        replace_draft(held, manifest, actor=actor)
        keep_states(held)
    server.refresh_from_db()


# ---- looking at what they list ---------------------------------------------------------------------------


def declared_upstreams(server: Server) -> dict[str, tuple[str, Json]]:
    """Name and declaration by source, of all that the draft and the channels declare."""
    channels = Channel.objects.filter(server=server).select_related("version")
    declared = [channel.version.manifest.get("upstreams", {}) for channel in channels]
    return {
        manifests.source_of(upstream): (name, upstream)
        for upstreams in (*declared, server.upstreams)
        for name, upstream in upstreams.items()
    }


def keep_states(server: Server) -> None:
    """A state for each upstream that is declared, and none for those that are not any more.

    For services, in the transaction that changes what is declared.
    """
    declared, states = declared_upstreams(server), UpstreamState.objects.filter(server=server)
    UpstreamDefinition.objects.filter(server=server).exclude(source__in=declared).delete()
    remember_offers(server, {source: upstream for source, (_, upstream) in declared.items()})
    # Code is not looked at: what it lists was found when it was built.
    remote = {source: named for source, named in declared.items() if "url" in named[1]}
    states.exclude(source__in=remote).delete()
    known = set(states.values_list("source", flat=True))
    now = timezone.now()
    UpstreamState.objects.bulk_create(
        UpstreamState(
            tenant_id=server.tenant_id,
            server=server,
            source=source,
            upstream=name,
            declared=upstream,
            due_at=now + LOOK_EVERY,
        )
        for source, (name, upstream) in remote.items()
        if source not in known
    )


def start_look(server: Server, *, name: str) -> UpstreamState:
    """Wake a worker that asks an upstream of the draft for all it lists. Raises `NotFound`."""
    with transaction.atomic():
        held = locked(server)
        if name not in held.upstreams:
            raise NotFound("There is no upstream by that name.")
        if "code" in held.upstreams[name]:
            raise Conflict(
                f"{name} is code that was uploaded. What it offers was found when it was built; upload it again "
                "to change that.",
                code="not_elsewhere",
            )
        keep_states(held)
        state: UpstreamState = UpstreamState.objects.select_related("job").get(
            server=held, source=manifests.source_of(held.upstreams[name])
        )
        _look_soon(state)
    return state


def start_due_looks(most: int = 200) -> int:
    """Wake workers for what was not looked at for ten minutes, the longest first. In the system's scope."""
    now = timezone.now()
    due = UpstreamState.objects.filter(
        due_at__lte=now, server__deleted_at__isnull=True, server__tenant__deleted_at__isnull=True
    ).select_related("job")
    states = list(due.order_by("due_at")[:most])
    for state in states:
        with transaction.atomic():
            _look_soon(state)
    return len(states)


def _look_soon(state: UpstreamState) -> None:
    """One look at a time; the next beat is put off, so that a look that never ends is not joined by others."""
    if state.job is None or state.job.is_finished:
        state.job = jobs.enqueue(LOOK, tenant_id=state.tenant_id, payload={"state": str(state.id)})
    state.due_at = timezone.now() + LOOK_EVERY
    state.save(update_fields=["job", "due_at"])


def endpoint_to_look_at(state: UpstreamState) -> Endpoint:
    """With the values of `live` in place. Raises `NotFound` and `InvalidInput`."""
    server = state.server
    if server.deleted_at is not None:
        raise NotFound("There is no server by that name.")
    live = Channel.objects.filter(server=server, name="live").first()
    defaults = {key: str(about.get("default", "")) for key, about in server.variables.items()}
    values = Values((defaults | (live.variables if live else {})).get, secrets_of(server).get)
    try:
        return endpoint_of(state.declared, values)
    except NotReady as problem:
        raise InvalidInput(problem.sentence, code=problem.failure) from None
    except ValueError as error:
        raise InvalidInput(str(error)) from None


def note_failed_look(state: UpstreamState, error: str) -> None:
    """What was listed before stays the last that is known."""
    UpstreamState.objects.filter(id=state.id).update(error=error[:2_000])
