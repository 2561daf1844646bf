"""How the control plane tells every gateway that something changed (DESIGN 3, "Changes")."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from django.db import connections, transaction
from django.db.models import Max

from tenants.models import Change, ChangeHead

# Called after commit; the process that holds the bus puts its wake-up here. Losing one costs half a second.
_listeners: list[Callable[[], None]] = []


def on_announce(listener: Callable[[], None]) -> None:
    _listeners.append(listener)


def stop_announcing_to(listener: Callable[[], None]) -> None:
    _listeners.remove(listener)


def announce(kind: str, *, tenant: uuid.UUID, ref: str = "") -> None:
    """Add a change; call it last in the transaction, since it locks the one row all changes pass.

    Kinds: `server` (ref: server id), `key` (ref: digest), `tenant`, `member` (ref: user id).
    """
    connection = connections[ChangeHead.objects.db]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tenants_changehead SET number = number + 1 WHERE id = 1 RETURNING number")
        (number,) = cursor.fetchone()
    Change.objects.create(number=number, kind=kind, tenant_id=tenant, ref=ref)
    transaction.on_commit(_tell, using=connection.alias)


def _tell() -> None:
    for listener in _listeners:
        listener()


def head() -> int:
    return ChangeHead.objects.aggregate(Max("number"))["number__max"] or 0


def since(number: int, *, limit: int = 1000) -> list[Change]:
    """Changes after `number` in commit order, at most `limit`."""
    return list(Change.objects.filter(number__gt=number).order_by("number")[:limit])
