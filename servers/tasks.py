"""Work of this app that is done in the background."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.utils import timezone

from mooring.audit.record import SYSTEM_ACTOR
from mooring.egress.fetch import fetch
from mooring.errors import ClientError, MooringError
from mooring.ids import least_uuid7
from mooring.jobs import Progress, register
from mooring.jobs.models import Job
from mooring.scope import system_scope, tenant_scope
from servers.importers import code
from servers.importers.remote import look
from servers.models import Build, CallRecord, IdempotencyKey, Import, SessionState, UpstreamState
from servers.runner.engine import BuildEvent, BuildResult
from servers.services import alerting, building, builds, keeping, run_import, uptime
from servers.services.drift import record_look
from servers.services.imports import FETCH_SECONDS, MAX_BYTES, source_of
from servers.services.rebuilding import (
    AGAIN_AFTER,
    MOST_MISSING,
    UNCALLED_AGAIN_AFTER,
    Missed,
    build_again,
    missed_code,
    named_by_servers,
    worth_a_try,
)
from servers.services.running import keep_artifacts, let_stand_in, missing_artifacts
from servers.services.telling import tell_of_drifts
from servers.services.upstreams import LOOK, endpoint_to_look_at, note_failed_look, start_due_looks
from tenants.models import Change

IDEMPOTENCY_KEPT = timedelta(days=1)
# Gateways read changes within a second; a week is for people who look into an incident.
CHANGES_KEPT = timedelta(days=7)
# What was handed in and nothing uses: documents, and code that no draft and no version names.
UPLOADS_KEPT = timedelta(days=30)
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

    def read(done: int, of: int) -> None:
        progress(f"Reading the operations: {done:,} of {of:,}", 10 + 85 * done // max(of, 1))

    with tenant_scope(job.tenant_id):
        run_import(import_id, fetched=fetched, progress=read)
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


@register(builds.BUILD, at_once=1)
def build_code(job: Job, progress: Progress) -> dict[str, Any]:
    """Payload: `{"build": id}`, with `"again": true` for an artifact that a runner has lost, and `"server": id` of the
    one that runs it where the build's own is deleted.
    """
    build_id, again = uuid.UUID(job.payload["build"]), bool(job.payload.get("again"))
    taker = uuid.UUID(job.payload["server"]) if "server" in job.payload else None
    progress(code.STAGES["read"][0], 1)

    def told(events: Sequence[BuildEvent], attempt: int) -> None:
        """Whoever has lost the job learns of it here."""
        if events:
            progress(*code.STAGES.get(events[-1].stage, ("Building", 50)))
        if events and not again:
            with tenant_scope(job.tenant_id):
                building.hear(build_id, events, attempt=attempt)

    try:
        with tenant_scope(job.tenant_id):
            order = building.begin(build_id, again=again, instead_of_deleted=taker)
        if order is not None:
            heard = partial(told, attempt=order.attempt)
            result = code.build(Path(settings.RUNNER_DIR), order.spec, order.upload, told=heard)
            _finish_build(job, build_id, result, again=again)
    except MooringError as error:
        with tenant_scope(job.tenant_id):
            building.fail(build_id, error, is_final=isinstance(error, ClientError))
        raise
    return {"build": str(build_id)}


def _finish_build(job: Job, build_id: uuid.UUID, result: BuildResult, *, again: bool) -> None:
    with tenant_scope(job.tenant_id):
        if not again:
            return building.finish(build_id, result)
        replaced = building.replaced_by(build_id, result)
    if replaced:
        # Written down once it holds; saying so twice to the runner does no harm.
        let_stand_in(replaced, by=result.digest)
        with tenant_scope(job.tenant_id):
            building.note_replaced(build_id, result)


def rebuild_missing_code() -> None:
    """Of the last minutes, since a beat may be missed and calls are recorded with a delay."""
    with system_scope():
        missed = missed_code(timezone.now() - timedelta(minutes=5))
    _rebuild(missed)


def rebuild_lost_code() -> None:
    """What drafts and channels name and the runner cannot run, before a call finds out."""
    with system_scope():
        named = named_by_servers()
    try:
        lost = set(missing_artifacts(sorted({one.digest for one in named})))
    except MooringError as error:
        _log.info("artifacts_not_looked_at", reason=error.message)
        return
    with system_scope():
        due = worth_a_try((one for one in named if one.digest in lost), UNCALLED_AGAIN_AFTER)
    _rebuild(due[:MOST_MISSING], UNCALLED_AGAIN_AFTER)


def _rebuild(missed: Sequence[Missed], again_after: timedelta = AGAIN_AFTER) -> None:
    for one in missed:
        with tenant_scope(one.tenant):
            build_again(one.server, one.digest, missed_at=one.at, again_after=again_after)


def look_at_upstreams() -> None:
    """Have those looked at that are due."""
    with system_scope():
        start_due_looks()


def tell_of_health() -> None:
    """Tell owners what became of their upstreams."""
    with system_scope():
        due = alerting.news()
    for tenant_id, server_id in due:
        with tenant_scope(tenant_id):
            alerting.tell(server_id)


def roll_up_health() -> None:
    """Count probes by the hour, and forget old ones. Safe to run at any moment, any number of times."""
    with system_scope():
        hours, forgotten = uptime.roll_up(), uptime.forget()
    _log.info("health_rolled_up", hours=hours, forgotten=forgotten)


def purge() -> None:
    """Remove what has served its time. Safe to run at any moment, any number of times."""
    now = timezone.now()
    with system_scope():
        answers, _ = IdempotencyKey.objects.filter(created_at__lt=now - IDEMPOTENCY_KEPT).delete()
        changes, _ = Change.objects.filter(created_at__lt=now - CHANGES_KEPT).delete()
        sessions, _ = SessionState.objects.filter(expires_at__lt=now).delete()
        imports, _ = Import.objects.filter(created_at__lt=now - UPLOADS_KEPT).delete()
        uploads = keeping.forget(now, UPLOADS_KEPT)
        artifacts = set(Build.objects.exclude(artifact="").values_list("artifact", flat=True))
    _log.info(
        "purged",
        idempotency_keys=answers,
        changes=changes,
        sessions=sessions,
        imports=imports,
        builds=uploads,
        artifacts=_removed_but(artifacts),
    )


def _removed_but(artifacts: set[str]) -> int:
    """How many of this machine's artifacts went. Where no runner is, none are."""
    try:
        return len(keep_artifacts(artifacts))
    except MooringError as error:
        _log.info("artifacts_not_tidied", reason=error.message)
        return 0


def forget_calls(at_once: int = CALLS_AT_ONCE, batches: int = BATCHES_A_RUN) -> int:
    """Delete calls older than `CALLS_KEPT_DAYS`, the oldest first. Returns how many. Safe to run twice at once."""
    cutoff = timezone.now() - timedelta(days=settings.CALLS_KEPT_DAYS)
    forgotten = 0
    with system_scope():
        for _ in range(batches):
            oldest = (
                CallRecord.objects.filter(id__lt=least_uuid7(cutoff)).order_by("id").values("id")[:at_once]
            )
            count, _ = CallRecord.objects.filter(id__in=oldest).delete()
            forgotten += count
            if count < at_once:
                break
    _log.info("calls_forgotten", calls=forgotten)
    return forgotten
