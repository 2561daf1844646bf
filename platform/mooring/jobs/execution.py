"""Doing a job with one effect: whoever holds the lease works, whoever still holds it may say it is done."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from django.db import DatabaseError, connections
from django.db.models import Count, F, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from mooring.errors import ClientError, MooringError
from mooring.jobs.models import LEASE, MAX_ATTEMPTS, MESSAGE_LASTS, QUEUES, Job
from mooring.jobs.queue import backlog, wake
from mooring.jobs.registry import most_at_once, work_of
from mooring.scope import system_scope

# A lease is renewed three times before it lapses, so two renewals may fail.
RENEW_EVERY = LEASE / 3
# Work may report at each of a thousand steps; people see four a second.
PROGRESS_EVERY = 0.25
FIRST_PAUSE = timedelta(seconds=2)
# Younger jobs have their own message on the way.
SWEEP_AFTER = timedelta(seconds=5)
# Of each queue; and of these so many of one kind of one tenant, or the oldest heap would leave no room for others.
SWEPT_AT_ONCE, SWEPT_OF_A_KIND = 50, 5
_BROKEN = "Something went wrong on our side. Try again; if it fails again, tell your operator this id: {id}."
_DIED = f"The work was begun {MAX_ATTEMPTS} times and never came to an end. Try it with less at once."
_log = structlog.get_logger(__name__)


class LeaseLost(Exception):
    """Another worker has taken the job over; what this one does no longer counts."""


def run(job_id: uuid.UUID) -> bool:
    """Do the job when it is due and free. True when this call brought it to an end, good or bad."""
    lease = _claim(job_id)
    if lease is None:
        return False
    with lease.renewed():
        return _do(lease)


def sweep() -> int:
    """Wake workers for jobs whose message was lost, whose pause is over, whose worker died, or whose turn it is now.

    A job whose message may still be taken gets no other, and a queue in which enough lie gets none, so that messages do
    not heap up before workers that are busy, or away.
    """
    served = [queue for queue in QUEUES if backlog(queue) < SWEPT_AT_ONCE]
    with system_scope():
        found = [(job_id, queue) for queue in served for job_id in _to_wake(queue)]
        # Those that were claimed meanwhile keep none on record: their next attempt needs a message of its own.
        waiting = Job.objects.filter(Job.due(), id__in=[job_id for job_id, _ in found])
        waiting.update(woken_at=timezone.now())
    for job_id, queue in found:
        wake(job_id, queue)
    return len(found)


def _to_wake(queue: str) -> list[uuid.UUID]:
    """Jobs a worker could take, the oldest first."""
    now = timezone.now()
    is_unheard = Q(woken_at__isnull=True) | Q(woken_at__lt=now - MESSAGE_LASTS)
    due = Job.objects.filter(Job.due(), is_unheard, queue=queue, created_at__lt=now - SWEEP_AFTER)
    for kind, most in most_at_once().items():
        running = _running(kind).values("tenant_id").annotate(count=Count("id"))
        due = due.exclude(kind=kind, tenant_id__in=running.filter(count__gte=most).values("tenant_id"))
    place = Window(RowNumber(), partition_by=[F("tenant_id"), F("kind")], order_by=F("created_at").asc())
    few = due.annotate(place=place).filter(place__lte=SWEPT_OF_A_KIND)
    return list(few.order_by("created_at").values_list("id", flat=True)[:SWEPT_AT_ONCE])


class Lease:
    """The right to do a job: every write is conditional on the token still being ours."""

    def __init__(self, job: Job, token: uuid.UUID) -> None:
        self.job = job
        self._token = token
        self._done = threading.Event()
        self._reported_at = 0.0

    def progress(self, text: str, percent: int, /) -> None:
        """Show how far the work is, and renew the lease. Raises `LeaseLost`."""
        if time.monotonic() - self._reported_at < PROGRESS_EVERY and percent < 100:
            return
        self._reported_at = time.monotonic()
        shown = min(max(percent, 0), 100)
        if not self._update(progress=text[:200], percent=shown, lease_until=timezone.now() + LEASE):
            raise LeaseLost

    def end(self, state: Job.State, **fields: object) -> bool:
        """False when the lease was lost, in which case nothing is written."""
        return self._update(state=state, lease_token=None, **fields)

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew in the background; a worker that dies stops renewing, and so lets go."""
        thread = threading.Thread(target=self._renew, name=f"lease {self.job.id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _renew(self) -> None:
        try:
            while not self._done.wait(RENEW_EVERY.total_seconds()):
                try:
                    self._update(lease_until=timezone.now() + LEASE)
                except DatabaseError as error:
                    _log.warning("jobs.lease_not_renewed", job=str(self.job.id), error=str(error))
                    connections.close_all()
        finally:
            connections.close_all()

    def _update(self, **fields: object) -> bool:
        with system_scope():
            held = Job.objects.filter(id=self.job.id, state=Job.State.RUNNING, lease_token=self._token)
            return bool(held.update(**fields))


def _claim(job_id: uuid.UUID) -> Lease | None:
    """Take the job by one conditional update; None when it is done, held, resting or used up, or has to wait for
    others of its tenant.
    """
    token, now = uuid.uuid4(), timezone.now()
    with system_scope():
        due: QuerySet[Job] = Job.objects.filter(Job.due(), id=job_id)
        if (job := due.first()) is None:
            return None
        if _has_enough(job):
            due.update(woken_at=None)  # the message is spent, and the next is due as soon as there is a turn
            return None
        claimed = due.filter(attempts__lt=MAX_ATTEMPTS).update(
            state=Job.State.RUNNING,
            lease_token=token,
            lease_until=now + LEASE,
            attempts=F("attempts") + 1,
            woken_at=None,
        )
        if claimed:
            return Lease(Job.objects.get(id=job_id), token)
        due.filter(attempts__gte=MAX_ATTEMPTS).update(
            state=Job.State.FAILED, error=_DIED, lease_token=None, finished_at=now
        )
        return None


def _has_enough(job: Job) -> bool:
    """Whether its tenant has as much of the kind under way as it may at once. Two that are claimed in the same moment
    may both get through: this is for fairness, and bounds nothing else.
    """
    most = most_at_once().get(job.kind)
    if most is None:
        return False
    return bool(_running(job.kind).filter(tenant_id=job.tenant_id).exclude(id=job.id).count() >= most)


def _running(kind: str) -> QuerySet[Job]:
    """Those whose worker lives."""
    running: QuerySet[Job] = Job.objects.filter(
        kind=kind, state=Job.State.RUNNING, lease_until__gte=timezone.now()
    )
    return running


def _do(lease: Lease) -> bool:
    job = lease.job
    try:
        result = work_of(job.kind)(job, lease.progress)
    except LeaseLost:
        _log.warning("jobs.lease_lost", job=str(job.id), kind=job.kind)
        return False
    except ClientError as error:
        # The same input is refused again, however often it is tried.
        return _fail(lease, error.message)
    except MooringError as error:
        return _retry(lease, error.message)
    except Exception:  # noqa: BLE001  # a worker's border: work may fail in any way, the worker goes on
        _log.exception("jobs.work_failed", job=str(job.id), kind=job.kind, attempt=job.attempts)
        return _retry(lease, _BROKEN.format(id=job.id))
    return lease.end(
        Job.State.DONE, result=result, progress="", percent=100, finished_at=timezone.now(), error=""
    )


def _fail(lease: Lease, message: str) -> bool:
    return lease.end(Job.State.FAILED, error=message[:500], finished_at=timezone.now())


def _retry(lease: Lease, message: str) -> bool:
    """Let the job rest for 2, 4, 8, 16 seconds, then fail for good."""
    attempts = lease.job.attempts
    if attempts >= MAX_ATTEMPTS:
        return _fail(lease, message)
    pause = FIRST_PAUSE * 2 ** (attempts - 1)
    lease.end(Job.State.WAITING, error=message[:500], lease_until=timezone.now() + pause)
    return False
