"""Work of this app that is done in the background."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import structlog
from django.utils import timezone

from mooring.egress.fetch import fetch
from mooring.jobs import Progress, register
from mooring.jobs.models import Job
from mooring.scope import system_scope, tenant_scope
from servers.models import IdempotencyKey, SessionState
from servers.services import run_import
from servers.services.imports import FETCH_SECONDS, MAX_BYTES, source_of
from tenants.models import Change

IDEMPOTENCY_KEPT = timedelta(days=1)
# Gateways read changes within a second; a week is for people who look into an incident.
CHANGES_KEPT = timedelta(days=7)
_log = structlog.get_logger(__name__)


@register("openapi.import")
def do_import(job: Job, progress: Progress) -> dict[str, Any]:
    """Payload: `{"import": id}`."""
    import_id = uuid.UUID(job.payload["import"])
    progress("Reading the document", 5)
    with tenant_scope(job.tenant_id):
        source = source_of(import_id)
    fetched = fetch(source, limit=MAX_BYTES, timeout=FETCH_SECONDS) if source else ""
    with tenant_scope(job.tenant_id):
        run_import(import_id, fetched=fetched)
    return {"import": job.payload["import"]}


def purge() -> None:
    """Remove what has served its time. Safe to run at any moment, any number of times."""
    now = timezone.now()
    with system_scope():
        answers, _ = IdempotencyKey.objects.filter(created_at__lt=now - IDEMPOTENCY_KEPT).delete()
        changes, _ = Change.objects.filter(created_at__lt=now - CHANGES_KEPT).delete()
        sessions, _ = SessionState.objects.filter(expires_at__lt=now).delete()
    _log.info("purged", idempotency_keys=answers, changes=changes, sessions=sessions)
