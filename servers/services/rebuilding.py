"""Artifacts that a runner has lost, made once more from their uploads."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from mooring.ids import least_uuid7
from mooring.jobs.models import Job
from servers.models import CallRecord, Server, Version
from servers.services.artifacts import build_of, named_code
from servers.services.builds import enqueue_build

# How a call is recorded whose artifact the runner does not have.
MISSING, MOST_MISSING = "code_missing", 100
AGAIN_AFTER = timedelta(minutes=10)


def build_again(server_id: uuid.UUID, digest: str, *, missed_at: datetime | None = None) -> bool:
    """Wake a worker that makes an artifact which a runner has lost from its upload, unless one is at it or has been
    since `missed_at`. False when no build gave it, and when the server is deleted.
    """
    with transaction.atomic():
        servers = Server.objects.select_for_update(no_key=True)
        held = servers.filter(id=server_id, deleted_at__isnull=True).first()
        build = build_of(held, digest) if held is not None else None
        if build is None:
            return False
        if build.job is None or (build.job.is_finished and _is_worth_it(build.job, missed_at)):
            enqueue_build(build, again=True)
    return True


def _is_worth_it(last: Job, missed_at: datetime | None) -> bool:
    """What cannot be built again is not tried with every call that would need it."""
    ended = last.finished_at
    if ended is None or missed_at is None:
        return True
    return ended < (missed_at if last.state == Job.State.DONE else timezone.now() - AGAIN_AFTER)


@dataclass(frozen=True, slots=True)
class Missed:
    """An artifact that a call has found missing at the runner, last at that time."""

    tenant: uuid.UUID
    server: uuid.UUID
    digest: str
    at: datetime


def missed_code(since: datetime) -> list[Missed]:
    """What calls since then have found missing. In the system's scope.

    The data plane writes no jobs; its record of calls says what is needed.
    """
    missed = CallRecord.objects.filter(id__gte=least_uuid7(since), code=MISSING).order_by()
    found = []
    for row in missed.values("tenant_id", "server_id", "version").annotate(at=Max("time"))[:MOST_MISSING]:
        version = Version.objects.filter(server_id=row["server_id"], number=row["version"]).first()
        for digest in sorted(named_code(version.manifest if version else {})):
            found.append(Missed(row["tenant_id"], row["server_id"], digest, row["at"]))
    return found
