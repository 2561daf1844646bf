"""Writing to the audit log, and checking its chain."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from mooring.audit.models import AuditEvent, AuditHead
from mooring.logs import MASK, request_id

_HASHED = (
    "sequence time actor_kind actor_id actor_name action target_kind target_id target_name before after ip "
    "request_id previous_hash"
).split()
_SECRET_FIELDS = frozenset({"password", "secret", "value", "digest_of_key", "ciphertext"})


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a user, an API key, staff, or the system itself."""

    kind: str
    id: str
    name: str
    ip: str = ""

    def at(self, ip: str) -> Actor:
        return replace(self, ip=ip)


SYSTEM_ACTOR = Actor("system", "", "Mooring")


@dataclass(frozen=True, slots=True)
class Target:
    kind: str
    id: str
    name: str


def record(
    action: str,
    *,
    tenant: uuid.UUID,
    actor: Actor,
    target: Target,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Append one event in the caller's transaction.

    `before` and `after` hold only the fields that matter; values of secret fields are masked here once more.
    Raises `TransactionManagementError` outside a transaction, since an event must not outlive its change.
    """
    head = _locked_head(tenant)
    event = AuditEvent(
        tenant_id=tenant,
        sequence=head.sequence + 1,
        time=timezone.now(),
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_name=actor.name[:254],
        action=action,
        target_kind=target.kind,
        target_id=target.id,
        target_name=target.name[:300],
        before=_redacted(before),
        after=_redacted(after),
        ip=actor.ip,
        request_id=request_id.get(),
        previous_hash=head.hash,
    )
    event.hash = chain_hash(event)
    event.save(force_insert=True)
    head.sequence, head.hash = event.sequence, event.hash
    head.save(update_fields=["sequence", "hash"])
    return event


def _locked_head(tenant: uuid.UUID) -> AuditHead:
    heads = AuditHead.objects.select_for_update()
    if transaction.get_connection(heads.db).in_atomic_block is False:
        raise transaction.TransactionManagementError("An audit event belongs into its change's transaction.")
    head: AuditHead | None = heads.filter(tenant_id=tenant).first()
    if head is None:
        AuditHead.objects.bulk_create([AuditHead(tenant_id=tenant)], ignore_conflicts=True)
        locked: AuditHead = heads.get(tenant_id=tenant)
        return locked
    return head


def _redacted(fields: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if fields is None:
        return None
    return {name: MASK if name in _SECRET_FIELDS else _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


def chain_hash(event: AuditEvent) -> str:
    """SHA-256 over the event's fields in a fixed order as JSON with sorted keys, the previous hash among them."""
    fields = [_plain(getattr(event, name)) for name in _HASHED]
    fields.append(str(event.tenant_id))
    return hashlib.sha256(json.dumps(fields, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def first_broken_link(tenant: uuid.UUID) -> int | None:
    """Sequence number of the first event that does not follow from the one before it, or None."""
    previous, expected = "0" * 64, 1
    for event in AuditEvent.objects.filter(tenant_id=tenant).order_by("sequence").iterator():
        broken = (
            event.sequence != expected or event.previous_hash != previous or event.hash != chain_hash(event)
        )
        if broken:
            return expected
        previous, expected = event.hash, expected + 1
    head = AuditHead.objects.filter(tenant_id=tenant).first()
    return None if head is None or head.hash == previous else expected
