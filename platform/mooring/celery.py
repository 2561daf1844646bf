"""What `mooring worker` and `mooring beat` run."""

# ruff: noqa: E402  # models may be imported only after django.setup()

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mooring.settings")

import django

django.setup()

from celery.signals import setup_logging
from django.db import close_old_connections

from mooring.jobs.broker import app
from mooring.jobs.execution import run, sweep
from servers import tasks

SWEEP_EVERY = 5.0
# A run deletes a million calls at most; at this pace that is more than an installation can answer.
FORGET_EVERY = 600.0
MINUTE = 60.0
DAY = 24 * 3600.0


@setup_logging.connect
def keep_our_logging(**_: object) -> None:
    """Celery configures logging unless somebody listens here; its own chatter is a line every few seconds."""
    logging.getLogger("celery").setLevel(logging.WARNING)


@contextmanager
def _connections() -> Iterator[None]:
    """Connections as long-lived as a web request's: dropped when too old or broken."""
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()


@app.task(name="mooring.run_job")
def run_job(job_id: str) -> None:
    with _connections():
        run(uuid.UUID(job_id))


@app.task(name="mooring.sweep_jobs")
def sweep_jobs() -> None:
    with _connections():
        sweep()


@app.task(name="mooring.purge")
def purge() -> None:
    with _connections():
        tasks.purge()


@app.task(name="mooring.forget_calls")
def forget_calls() -> None:
    with _connections():
        tasks.forget_calls()


@app.task(name="mooring.rebuild_missing_code")
def rebuild_missing_code() -> None:
    with _connections():
        tasks.rebuild_missing_code()


@app.task(name="mooring.rebuild_lost_code")
def rebuild_lost_code() -> None:
    with _connections():
        tasks.rebuild_lost_code()


@app.task(name="mooring.look_at_upstreams")
def look_at_upstreams() -> None:
    with _connections():
        tasks.look_at_upstreams()


@app.task(name="mooring.tell_of_health")
def tell_of_health() -> None:
    with _connections():
        tasks.tell_of_health()


@app.task(name="mooring.roll_up_health")
def roll_up_health() -> None:
    with _connections():
        tasks.roll_up_health()


def _every(seconds: float, task: str) -> dict[str, object]:
    """A beat that nobody hears is worth nothing by the time of the next."""
    return {"task": task, "schedule": seconds, "options": {"expires": seconds}}


app.conf.beat_schedule = {
    "sweep": _every(SWEEP_EVERY, "mooring.sweep_jobs"),
    "purge": _every(DAY, "mooring.purge"),
    "forget calls": _every(FORGET_EVERY, "mooring.forget_calls"),
    "rebuild missing code": _every(MINUTE, "mooring.rebuild_missing_code"),
    "rebuild lost code": _every(FORGET_EVERY, "mooring.rebuild_lost_code"),
    "look at upstreams": _every(MINUTE, "mooring.look_at_upstreams"),
    "tell of health": _every(MINUTE, "mooring.tell_of_health"),
    "roll up health": _every(FORGET_EVERY, "mooring.roll_up_health"),
}
__all__ = ["app"]
