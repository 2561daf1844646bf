"""Adding work. Celery is imported by the first message: a web process without work never pays for it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

from django.db import transaction

from mooring.jobs.models import JOBS, Job


def enqueue(kind: str, *, tenant_id: uuid.UUID, payload: Mapping[str, Any], queue: str = JOBS) -> Job:
    """Add a job to the caller's transaction and wake a worker once it is committed.

    `payload` holds ids and small parameters, never a secret: rows are read by people.
    """
    job: Job = Job.objects.create(kind=kind, tenant_id=tenant_id, payload=dict(payload), queue=queue)
    transaction.on_commit(partial(wake, job.id, queue), using=job._state.db)
    return job


def wake(job_id: uuid.UUID, queue: str) -> None:
    """Tell the workers. A message that cannot be sent costs seconds only, since beat sweeps up."""
    from mooring.jobs.broker import send  # celery takes half a second to import

    send("mooring.run_job", str(job_id), queue=queue)


def backlog(queue: str) -> int:
    """How many messages nobody has taken."""
    from mooring.jobs import broker  # as above

    return broker.backlog(queue)
