"""What every change of a server has in common: the lock, the audit event, the announcement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils import timezone

from mooring.audit.record import Actor, Target, record
from mooring.errors import NotFound
from servers.models import DraftRow, Server
from tenants.changes import announce


def locked(server: Server) -> Server:
    """Take the server's row lock, which puts all changes of one server in an order. Needs a transaction.

    Returns a fresh copy; raises `NotFound` when the server was deleted meanwhile.
    """
    fresh: Server | None = (
        Server.objects.select_for_update(no_key=True).filter(id=server.id, deleted_at__isnull=True).first()
    )
    if fresh is None:
        raise NotFound("There is no server by that name.")
    return fresh


def note(
    server: Server,
    action: str,
    *,
    actor: Actor,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    row: DraftRow | None = None,
) -> None:
    """Record a change of the server, or of `row` in its draft, and announce it. Call it last."""
    target = Target("server", str(server.id), server.slug)
    if row is not None:
        target = Target(row._meta.model_name or "row", str(row.id), f"{server.slug}/{row.name}")
    record(action, tenant=server.tenant_id, actor=actor, target=target, before=before, after=after)
    announce("server", tenant=server.tenant_id, ref=str(server.id))


def count_draft_change(locked_server: Server, *, seen: Server, also: tuple[str, ...] = ()) -> None:
    """Raise the draft's number, save the fields named in `also` with it, and bring the caller's copy up to date."""
    locked_server.draft_number += 1
    locked_server.changed_at = timezone.now()
    locked_server.save(update_fields=["draft_number", "changed_at", *also])
    for name in ("draft_number", "changed_at", *also):
        setattr(seen, name, getattr(locked_server, name))


def changed_fields(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both sides of the fields that differ."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in names}, {name: after[name] for name in names}
