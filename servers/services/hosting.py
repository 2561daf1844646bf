"""Servers themselves: made, described, given their variables, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from mooring.audit.record import Actor
from mooring.errors import Conflict, InvalidInput, NotFound
from servers import manifests
from servers.models import Channel, Secret, Server
from servers.services.artifacts import refuse_strange_code
from servers.services.channels import DRAFT, check_values
from servers.services.drafts import draft_manifest, replace_draft, settings_manifest
from servers.services.gallery import TEMPLATES
from servers.services.recording import changed_fields, count_draft_change, locked, note
from servers.services.watching import keep_watched
from tenants.models import Tenant
from tenants.slugs import checked_slug

_PARTS = {
    "variables": "variables",
    "secrets_needed": "secrets",
    "upstreams": "upstreams",
    "members": "members",
}
_DRAFT_FIELDS = ("title", "description", "instructions", *_PARTS)


def create_server(
    tenant: Tenant,
    *,
    slug: str,
    title: str,
    actor: Actor,
    is_public: bool = False,
    description: str = "",
) -> Server:
    """An empty server with a draft and no version.

    Raises `InvalidInput` for a bad slug or title, `Conflict` for a slug that was ever given out in this tenant
    or when the plan's number of servers is reached.
    """
    checked_slug(slug, what="server")
    server = Server(
        tenant=tenant, slug=slug, title=title.strip(), description=description.strip(), is_public=is_public
    )
    manifests.check(settings_manifest(server))
    with transaction.atomic():
        _refuse_beyond_plan(tenant)
        _insert(server)
        note(
            server,
            "server.created",
            actor=actor,
            after={"slug": slug, "title": server.title, "is_public": is_public},
        )
    return server


def _refuse_beyond_plan(tenant: Tenant) -> None:
    # The tenant's row lock makes counting and inserting one step.
    held = (
        Tenant.objects.select_for_update(no_key=True, of=("self",)).select_related("plan").get(id=tenant.id)
    )
    if Server.objects.filter(tenant=tenant, deleted_at__isnull=True).count() >= held.plan.servers:
        raise Conflict(
            f"Your plan allows {held.plan.servers} servers. Delete one you no longer need, or ask for a larger "
            "plan.",
            code="too_many_servers",
        )


def _insert(server: Server) -> None:
    try:
        with transaction.atomic():
            server.save(force_insert=True)
    except IntegrityError:
        raise Conflict(
            f"The name {server.slug!r} is taken. Names of deleted servers are not given out again either.",
            code="slug_taken",
            fields={"slug": ["This name is taken."]},
        ) from None


def update_server(server: Server, *, actor: Actor, **fields: Any) -> None:
    """Change any of title, description, instructions, variables, secrets_needed, upstreams and members (of
    the draft) and is_public.

    `is_public` holds for every channel at once. Raises `InvalidInput`, also when a tool still uses a variable
    or a secret that would go.
    """
    unknown = set(fields) - {*_DRAFT_FIELDS, "is_public"}
    if unknown:
        raise InvalidInput(f"A server has no {', '.join(sorted(unknown))}.")
    with transaction.atomic():
        held = locked(server)
        wanted = {name: value.strip() if isinstance(value, str) else value for name, value in fields.items()}
        old = {name: getattr(held, name) for name in wanted}
        for name, value in wanted.items():
            setattr(held, name, value)
        _check_settings(held, wanted)
        before, after = changed_fields(old, {name: getattr(held, name) for name in wanted})
        if not after:
            return
        _save_settings(held, server, after)
        note(server, "server.changed", actor=actor, before=before, after=after)


def _check_settings(server: Server, wanted: Mapping[str, Any]) -> None:
    """Check the whole draft only when something in it may refer to what changes."""
    if not isinstance(server.is_public, bool):
        raise InvalidInput("A server is public or not.", fields={"is_public": ["Say yes or no."]})
    refers = any(name in wanted for name in _PARTS)
    checked = manifests.check(draft_manifest(server) if refers else settings_manifest(server))
    if "upstreams" in wanted:
        refuse_strange_code(server, checked.get("upstreams", {}))
    for name, part in _PARTS.items():
        if name in wanted:
            setattr(server, name, checked.get(part, type(wanted[name])()))


def _save_settings(held: Server, seen: Server, after: Mapping[str, Any]) -> None:
    of_draft = tuple(name for name in after if name in _DRAFT_FIELDS)
    if "is_public" in after:
        held.save(update_fields=["is_public"])
        seen.is_public = held.is_public
    if of_draft:
        count_draft_change(held, seen=seen, also=of_draft)


def delete_server(server: Server, *, actor: Actor) -> None:
    """End a server: its URL answers as if it had never been, its secrets are erased, its name stays taken."""
    with transaction.atomic():
        held = locked(server)
        held.deleted_at = server.deleted_at = timezone.now()
        held.save(update_fields=["deleted_at"])
        Secret.objects.filter(server=held).delete()
        keep_watched(held)
        note(
            held,
            "server.deleted",
            actor=actor,
            before={"deleted_at": None},
            after={"deleted_at": held.deleted_at},
        )


def missing_variables(server: Server) -> list[str]:
    """Variables of the draft that have neither a default nor a value in live, which the draft takes too."""
    live = (
        Channel.objects.filter(server=server, name="live").values_list("variables", flat=True).first() or {}
    )
    return [
        name for name, about in server.variables.items() if not about.get("default") and not live.get(name)
    ]


def set_variables(server: Server, *, channel: str, variables: Mapping[str, str], actor: Actor) -> None:
    """Give a channel its values for the variables of the version it serves; the draft takes those of live.

    An empty value means the manifest's default. Raises `NotFound` for a channel that does not exist.
    """
    if channel == DRAFT:
        raise InvalidInput("The draft takes the values of live. Set them there, or change the defaults.")
    with transaction.atomic():
        held = locked(server)
        row = Channel.objects.filter(server=held, name=channel).select_related("version").first()
        if row is None:
            raise NotFound(f"There is no channel {channel[:63]!r}. Publish to it first.")
        values = check_values(row.version.manifest.get("variables", {}), variables)
        if values == row.variables:
            return
        before, row.variables = row.variables, values
        row.save(update_fields=["variables"])
        keep_watched(held)
        note(
            held, "channel.variables_changed", actor=actor, before={channel: before}, after={channel: values}
        )


def create_from_template(tenant: Tenant, *, template: str, slug: str, actor: Actor) -> Server:
    """A server whose draft is one of `TEMPLATES`. Raises `NotFound` for an unknown template."""
    chosen = TEMPLATES.get(template)
    if chosen is None:
        raise NotFound(f"There is no template {template[:60]!r}. Choose from {', '.join(TEMPLATES)}.")
    with transaction.atomic():
        server = create_server(tenant, slug=slug, title=chosen.title, actor=actor)
        replace_draft(server, chosen.manifest, actor=actor)
    return server
