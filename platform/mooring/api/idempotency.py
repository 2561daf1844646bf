"""`Idempotency-Key`: a repeated request is answered as the first one was, for a day, and does nothing.

A request first claims its key (committed at once, so that a parallel repetition sees it), then runs and keeps
its answer in one transaction. A refused request has changed nothing; it gives its key back.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.errors import Conflict, InvalidInput
from servers.models import IdempotencyKey
from tenants.access import Access
from tenants.secrets import seal, unseal

LIFETIME = timedelta(days=1)
# A claim this old belongs to a process that died; nothing it began was committed.
ABANDONED = timedelta(minutes=5)
METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_KEY = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True, slots=True)
class Claim:
    tenant: uuid.UUID
    row: uuid.UUID
    since: datetime


def key_of(request: Request) -> str | None:
    """The request's key, if any. Raises `InvalidInput` for one that is not 1 to 200 visible characters."""
    key = request.headers.get("Idempotency-Key")
    if key is None or request.method not in METHODS:
        return None
    if not _KEY.fullmatch(key):
        raise InvalidInput("An Idempotency-Key has 1 to 200 visible ASCII characters.")
    return key


def claim(access: Access, key: str, request: Request) -> Claim | Response:
    """Take the key, or return the answer that was kept under it.

    Raises `Conflict` while the first request runs and `InvalidInput` when it was another request.
    """
    tenant, now = access.tenant.id, timezone.now()
    digest = _digest(request)
    same = {"tenant": access.tenant, "actor": access.actor.id, "key": key}
    IdempotencyKey.objects.filter(**same, created_at__lt=now - LIFETIME).delete()
    row, created = IdempotencyKey.objects.get_or_create(**same, defaults={"request_digest": digest})
    if created:
        return Claim(tenant, row.id, row.created_at)
    if row.request_digest != digest:
        raise InvalidInput(
            "This Idempotency-Key was sent with another request. Use a new one for each request.",
            code="idempotency_key_reused",
        )
    if row.status:
        return _kept(row)
    return _taken_over(row, now)


def _taken_over(row: IdempotencyKey, now: datetime) -> Claim:
    mine = IdempotencyKey.objects.filter(id=row.id, status=0, created_at=row.created_at)
    if mine.filter(created_at__lt=now - ABANDONED).update(created_at=now) != 1:
        raise Conflict(
            "The first request with this Idempotency-Key is still running. Ask again in a moment.",
            code="idempotency_key_in_use",
        )
    return Claim(row.tenant_id, row.id, now)


def keep(claimed: Claim, response: Response) -> None:
    """Keep the answer, in the transaction of what it tells of; sealed, since it may hold a key's secret."""
    text = "" if response.data is None else JSONRenderer().render(response.data).decode()
    sealed = seal(text, tenant=claimed.tenant, row=_seal_name(claimed.row))
    kept = IdempotencyKey.objects.filter(id=claimed.row, status=0, created_at=claimed.since).update(
        status=response.status_code, body=base64.b64encode(sealed).decode()
    )
    if kept != 1:
        raise Conflict("Another request took over this Idempotency-Key.", code="idempotency_key_in_use")


def release(claimed: Claim) -> None:
    IdempotencyKey.objects.filter(id=claimed.row, status=0, created_at=claimed.since).delete()


def _kept(row: IdempotencyKey) -> Response:
    text = unseal(base64.b64decode(str(row.body)), tenant=row.tenant_id, row=_seal_name(row.id))
    return Response(
        json.loads(text) if text else None, status=row.status, headers={"Idempotency-Replayed": "true"}
    )


def _seal_name(row: uuid.UUID) -> str:
    return f"idempotency:{row}"


def _digest(request: Request) -> str:
    parts = (str(request.method).encode(), request.get_full_path().encode(), request._request.body)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
