"""What is remembered of handshake sessions, once there is something to remember."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from mooring.scope import tenant_scope
from servers.models import SessionState
from tenants.changes import announce


def end_session(nonce: str, *, tenant: uuid.UUID, server: uuid.UUID, expires: int) -> None:
    """`expires` is the session's own end in Unix seconds; nothing needs to be remembered beyond it."""
    _remember(nonce, tenant=tenant, server=server, expires=expires, has_ended=True)


def set_log_level(nonce: str, *, level: str, tenant: uuid.UUID, server: uuid.UUID, expires: int) -> None:
    _remember(nonce, tenant=tenant, server=server, expires=expires, log_level=level)


def _remember(nonce: str, *, tenant: uuid.UUID, server: uuid.UUID, expires: int, **state: Any) -> None:
    with tenant_scope(tenant), transaction.atomic():
        if SessionState.objects.filter(nonce=nonce, **state).exists():
            return
        SessionState.objects.update_or_create(
            tenant_id=tenant,
            nonce=nonce,
            defaults=state,
            create_defaults={
                **state,
                "server_id": server,
                "expires_at": datetime.fromtimestamp(expires, UTC),
            },
        )
        announce("session", tenant=tenant, ref=nonce)
