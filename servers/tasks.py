"""Work of this app that is done in the background."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.utils import timezone

from mooring.audit.record import SYSTEM_ACTOR
from mooring.egress.fetch import fetch
from mooring.errors import MooringError
from mooring.jobs import Progress, register
from mooring.jobs.models import Job
from mooring.scope import system_scope, tenant_scope
from servers.importers.remote import look
from servers.models import CallRecord, IdempotencyKey, SessionState, UpstreamState
from servers.services import run_import
from servers.services.drift import record_look
from servers.services.imports import FETCH_SECONDS, MAX_BYTES, source_of
from servers.services.telling import tell_of_drifts
from servers.services.upstreams import LOOK, endpoint_to_look_at, note_failed_look, start_due_looks
from tenants.models import Change

IDEMPOTENCY_KEPT = timedelta(days=1)
# Gateways read changes within a second; a week is for people who look into an incident.
CHANGES_KEPT = timedelta(days=7)
# A batch is one short transaction; a run that reaches its bound leaves the rest to the next.
CALLS_AT_ONCE = 5_000
BATCHES_A_RUN = 200
_log = structlog.get_logger(__name__)


@register("openapi.import")  # manifests came later, and waiting rows keep the name
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


@register(LOOK)
def look_at_upstream(job: Job, progress: Progress) -> dict[str, Any]:
    """Payload: `{"state": id}`. One that is not declared any more is nothing to look at."""
    progress("Asking the server what it offers", 10)
    with tenant_scope(job.tenant_id):
        state = UpstreamState.objects.select_related("server").filter(id=job.payload["state"]).first()
    if state is None:
        return {"found": 0, "held_back": 0}
    try:
        with tenant_scope(job.tenant_id):
            endpoint = endpoint_to_look_at(state)
        seen = look(str(job.tenant_id), endpoint)
    except MooringError as error:
        with tenant_scope(job.tenant_id):
            note_failed_look(state, error.message)
        raise
    progress("Comparing with what is pinned", 80)
    with tenant_scope(job.tenant_id):
        drifts = record_look(state, seen, actor=SYSTEM_ACTOR)
        tell_of_drifts(state.server, drifts)
    return {"found": len(seen.found), "held_back": len(drifts)}


def look_at_upstreams() -> None:
    """Have those looked at that are due."""
    with system_scope():
        start_due_looks()


def purge() -> None:
    """Remove what has served its time. Safe to run at any moment, any number of times."""
    now = timezone.now()
    with system_scope():
        answers, _ = IdempotencyKey.objects.filter(created_at__lt=now - IDEMPOTENCY_KEPT).delete()
        changes, _ = Change.objects.filter(created_at__lt=now - CHANGES_KEPT).delete()
        sessions, _ = SessionState.objects.filter(expires_at__lt=now).delete()
    _log.info("purged", idempotency_keys=answers, changes=changes, sessions=sessions)


def forget_calls(at_once: int = CALLS_AT_ONCE, batches: int = BATCHES_A_RUN) -> int:
    """Delete calls older than `CALLS_KEPT_DAYS`, the oldest first. Returns how many. Safe to run twice at once."""
    cutoff = timezone.now() - timedelta(days=settings.CALLS_KEPT_DAYS)
    forgotten = 0
    with system_scope():
        for _ in range(batches):
            oldest = CallRecord.objects.filter(time__lt=cutoff).order_by("time").values("id")[:at_once]
            count, _ = CallRecord.objects.filter(id__in=oldest).delete()
            forgotten += count
            if count < at_once:
                break
    _log.info("calls_forgotten", calls=forgotten)
    return forgotten
