"""Versions: frozen from the draft, put on a channel, rolled back."""

from __future__ import annotations

import re
from collections.abc import Mapping

from django.db import transaction

from mooring.audit.record import Actor
from mooring.errors import Conflict, InvalidInput, NotFound
from servers import manifests
from servers.models import Channel, Server, Version
from servers.services.artifacts import refuse_forgotten_code, refuse_strange_code
from servers.services.channels import check_channel, check_values
from servers.services.drafts import Manifest, draft_manifest
from servers.services.recording import locked, note
from servers.services.upstreams import keep_states
from servers.services.watching import keep_watched

_NUMBER = re.compile(
    r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
_MAX_NOTES = 5_000

MAX_CHANNELS = 20


def publish(
    server: Server,
    *,
    actor: Actor,
    notes: str = "",
    number: str | None = None,
    channel: str = "live",
    variables: Mapping[str, str] | None = None,
    manifest: Manifest | None = None,
) -> Version:
    """Freeze the draft, or `manifest` when given, as the next version and move `channel` to it.

    The channel gets `variables` when given.

    Of two publishes that overlap the second waits for the first, becomes the later version and is the one the
    channel serves. Raises `Conflict` when nothing changed or the number is taken, `InvalidInput` otherwise.
    """
    check_channel(channel)
    _check_wording(number, notes)
    with transaction.atomic():
        held = locked(server)
        manifest = manifests.check(draft_manifest(held) if manifest is None else manifest)
        _refuse_strange_members(held, manifest)
        refuse_strange_code(held, manifest.get("upstreams", {}))
        latest = Version.objects.filter(server=held).order_by("-ordinal").first()
        on_channel = Channel.objects.filter(server=held, name=channel).select_related("version").first()
        _refuse_unchanged(manifest, latest, on_channel and on_channel.version)
        version = _frozen(
            held, manifest, latest, number or _next_number(held, manifest, latest), notes, actor
        )
        _move(held, channel, version, variables)
        keep_states(held)
        note(
            held,
            "version.published",
            actor=actor,
            before={channel: on_channel.version.number if on_channel else None},
            after={channel: version.number, "digest": version.digest, "notes": version.notes},
        )
    return version


def _check_wording(number: str | None, notes: str) -> None:
    if number is not None and (len(number) > 40 or not _NUMBER.fullmatch(number)):
        raise InvalidInput(
            f"{number[:60]!r} is not a version number. Write three numbers, for example 1.2.0.",
            fields={"number": ["Write three numbers, for example 1.2.0."]},
        )
    if len(notes) > _MAX_NOTES or not manifests.is_storable(notes):
        raise InvalidInput(
            f"Notes are text of at most {_MAX_NOTES} characters.", fields={"notes": ["Shorten the notes."]}
        )


def _refuse_strange_members(server: Server, manifest: Manifest) -> None:
    """A member that goes later costs only its own parts; one that never was is a mistake."""
    problems: dict[str, list[str]] = {}
    for index, member in enumerate(manifest.get("members", [])):
        slug, place = member["server"], f"members[{index}].server"
        found = Server.objects.filter(slug=slug, deleted_at__isnull=True).first()
        if found is None:
            problems[place] = [f"This organisation has no server {slug!r}."]
        elif found.id == server.id:
            problems[place] = ["A server cannot be a member of itself."]
        elif found.members:
            problems[place] = [f"{slug!r} is made of others itself; name those instead."]
    if problems:
        raise InvalidInput(next(iter(problems.values()))[0], fields=problems)


def _refuse_unchanged(manifest: Manifest, *versions: Version | None) -> None:
    digest = manifests.digest(manifest)
    same = next((version for version in versions if version is not None and version.digest == digest), None)
    if same is not None:
        raise Conflict(
            f"Nothing changed since version {same.number}. Change the draft first, or move a channel to "
            f"{same.number}.",
            code="nothing_changed",
            version=same.number,
        )


def _next_number(server: Server, manifest: Manifest, latest: Version | None) -> str:
    numbers = set(Version.objects.filter(server=server).values_list("number", flat=True))
    highest = max(numbers, key=manifests.precedence, default=None)
    return manifests.propose_number(latest.manifest if latest else None, highest, manifest)


def _frozen(
    server: Server, manifest: Manifest, latest: Version | None, number: str, notes: str, actor: Actor
) -> Version:
    if Version.objects.filter(server=server, number=number).exists():
        raise Conflict(
            f"Version {number} exists already. Choose another number.",
            code="number_taken",
            fields={"number": ["This number is taken."]},
        )
    version: Version = Version.objects.create(
        tenant_id=server.tenant_id,
        server=server,
        number=number,
        ordinal=latest.ordinal + 1 if latest else 1,
        digest=manifests.digest(manifest),
        manifest=manifest,
        notes=notes.strip(),
        author=actor.name[:254],
    )
    return version


def _move(server: Server, channel: str, version: Version, variables: Mapping[str, str] | None) -> None:
    chosen: dict[str, object] = {"version": version}
    if variables is not None:
        chosen["variables"] = check_values(version.manifest.get("variables", {}), variables)
    others = Channel.objects.filter(server=server).exclude(name=channel)
    if others.count() >= MAX_CHANNELS:
        raise Conflict(f"A server has at most {MAX_CHANNELS} channels.", code="too_many_channels")
    Channel.objects.update_or_create(tenant_id=server.tenant_id, server=server, name=channel, defaults=chosen)
    keep_watched(server)


def rollback(server: Server, version: Version, *, actor: Actor, channel: str = "live") -> None:
    """Move a channel to any version that is not retired, back or forth. Moving it to where it is does nothing.

    Raises `Conflict`, also where the version's code is not kept any more, and `NotFound`.
    """
    check_channel(channel)
    if version.server_id != server.id:
        raise NotFound("There is no version by that number.")
    with transaction.atomic():
        held = locked(server)
        fresh = Version.objects.get(id=version.id)
        if fresh.retired_at is not None:
            raise Conflict(f"Version {fresh.number} is retired. Choose another.", code="version_retired")
        current = Channel.objects.filter(server=held, name=channel).select_related("version").first()
        if current is None:
            raise NotFound(f"There is no channel {channel[:63]!r}. Publish to it first.")
        if current.version_id == fresh.id:
            return
        refuse_forgotten_code(fresh)
        _move(held, channel, fresh, None)
        keep_states(held)
        note(
            held,
            "channel.moved",
            actor=actor,
            before={channel: current.version.number},
            after={channel: fresh.number},
        )
