"""Background work as rows. The row is the truth; the Celery message only wakes a worker (DESIGN, words)."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from mooring.scope import OwnedModel

LEASE = timedelta(seconds=30)
# A message nobody took by then is dropped: the sweep sends another while the job is due.
MESSAGE_LASTS = timedelta(seconds=60)
MAX_ATTEMPTS = 5
# Each has workers of its own, so that what takes minutes never holds up what takes seconds.
JOBS, BUILDS = "jobs", "builds"
QUEUES = (JOBS, BUILDS)


class Job(OwnedModel):
    """One piece of work. A worker holds it by a lease it renews; a lapsed lease gives it to another."""

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    kind = models.CharField(max_length=60)
    queue = models.CharField(max_length=20, default=JOBS, db_default=JOBS)
    payload = models.JSONField(default=dict, help_text="ids and small parameters, never a secret")
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    progress = models.CharField(max_length=200, blank=True)
    percent = models.PositiveSmallIntegerField(default=0)
    result = models.JSONField(default=dict)
    error = models.CharField(max_length=500, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    lease_token = models.UUIDField(null=True)
    woken_at = models.DateTimeField(
        null=True, help_text="when the sweep last sent a message nobody has taken"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        indexes: ClassVar = [
            models.Index(fields=["tenant", "state"], name="job_tenant_state"),
            models.Index(fields=["state", "lease_until"], name="job_state_lease"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id} ({self.state})"

    @property
    def is_finished(self) -> bool:
        return self.state in {self.State.DONE, self.State.FAILED}

    @staticmethod
    def due() -> Q:
        """Waiting and not resting after a failure, or held by a worker that died: its lease has lapsed."""
        has_lapsed = Q(lease_until__lt=timezone.now())
        return Q(state=Job.State.WAITING) & (Q(lease_until__isnull=True) | has_lapsed) | (
            Q(state=Job.State.RUNNING) & has_lapsed
        )
