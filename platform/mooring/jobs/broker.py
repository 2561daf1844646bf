"""The Celery application and how it carries messages. Messages only wake workers; losing one is harmless."""

from __future__ import annotations

from pathlib import Path
from queue import Empty
from typing import Any

import structlog
from celery import Celery
from django.conf import settings
from kombu import Queue
from kombu.exceptions import KombuError
from kombu.transport import filesystem
from kombu.utils.json import dumps, loads
from redis.exceptions import RedisError

from mooring.ids import uuid7
from mooring.jobs.models import JOBS, MESSAGE_LASTS, QUEUES

_FAILURES = (KombuError, RedisError, OSError)
_log = structlog.get_logger(__name__)


class FolderChannel(filesystem.Channel):
    """Messages as files, made and taken by renaming: kombu's own are readable before they are written."""

    def _put(self, queue: str, payload: dict[str, Any], **_: object) -> None:  # type: ignore[override]  # stubs differ
        name = Path(self.data_folder_out) / f"{uuid7().hex}.{queue}"
        fresh = name.with_name(f"{name.name}.new")
        fresh.write_text(dumps(payload))
        fresh.rename(name.with_name(f"{name.name}.msg"))

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        for path in sorted(Path(self.data_folder_in).glob(f"*.{queue}.msg")):
            taken = path.with_suffix(".taken")
            try:
                path.rename(taken)
            except FileNotFoundError:
                continue
            text = taken.read_text()
            taken.unlink()
            return loads(text)
        raise Empty


class FolderTransport(filesystem.Transport):
    Channel = FolderChannel
    # Four looks a second at a folder that is nearly always empty; kombu's one makes people wait.
    polling_interval = 0.25

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Give up sooner than asked, since a worker that is told to stop looks up only in between."""
        return super().drain_events(connection, timeout=min(timeout or 0.5, 0.5), **kwargs)


def _options() -> dict[str, Any]:
    options = dict(settings.CELERY_BROKER_TRANSPORT_OPTIONS)
    if settings.REDIS_URL:
        # Waking happens in somebody's request: give up soon, the sweep comes anyway.
        return options | {"socket_connect_timeout": 2}
    for name in ("data_folder_in", "control_folder"):
        Path(str(options[name])).mkdir(parents=True, exist_ok=True)
    return options | {"polling_interval": FolderTransport.polling_interval}


# Without Celery's Django fix-up, which puts the current folder first on `sys.path` of every process.
app = Celery("mooring", fixups=[], set_as_current=True)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    broker_transport_options=_options(),
    task_queues=[Queue(name) for name in QUEUES],
    task_default_queue=JOBS,
    # What nobody here listens to: events, and commands from `celery inspect`.
    worker_enable_remote_control=False,
    worker_send_task_events=False,
)
if not settings.REDIS_URL:
    # With a host, or kombu warns that there is none.
    app.conf.update(
        broker_url="filesystem://localhost//", broker_transport="mooring.jobs.broker:FolderTransport"
    )


def backlog(queue: str) -> int:
    """How many messages lie there, void ones too; 0 when nobody can say."""
    try:
        with app.connection_for_write() as connection:
            channel: Any = connection.channel()  # which the stubs do not know well
            return int(channel.queue_declare(queue=queue).message_count)
    except _FAILURES as error:
        _log.warning("jobs.not_counted", queue=queue, error=str(error))
        return 0


def send(task: str, *arguments: str, queue: str) -> None:
    expires = MESSAGE_LASTS.total_seconds()
    try:
        app.send_task(task, arguments, queue=queue, expires=expires, retry=False, ignore_result=True)
    except _FAILURES as error:
        _log.warning("jobs.not_woken", task=task, error=str(error))
