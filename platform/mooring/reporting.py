"""Errors go to Sentry when SENTRY_DSN is set, without secrets, bodies or people."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from mooring.logs import request_id, scrub

if TYPE_CHECKING:
    from sentry_sdk.transport import Transport
    from sentry_sdk.types import Event

# Django's own line about a page that failed: the failure itself has been reported already.
_TOLD_ELSEWHERE = "django.request"
# What strangers send, such as a wrong host, which they may do as often as they like.
_OF_STRANGERS = "django.security"
# One bug that everybody meets says no more by the thousand.
A_MINUTE = 10


def start_reporting(dsn: str, transport: Transport | None = None) -> None:
    """Report what no page expected, and each log line from ERROR on: borders catch what goes wrong, and log it."""
    import sentry_sdk  # large, and most installations have no DSN
    from sentry_sdk.integrations.django import DjangoIntegration

    sentry_sdk.init(
        dsn=dsn,
        transport=transport,
        max_request_body_size="never",
        include_local_variables=False,
        default_integrations=False,
        integrations=[DjangoIntegration()],
        before_send=_scrubbed,
    )
    logging.getLogger().addHandler(_Reporter(logging.ERROR))


class _Reporter(logging.Handler):
    """Makes an event of a log line, of each logger so many a minute. Of structlog's lines `msg` is a dictionary of
    what they say.
    """

    _minute = -1
    _told: Counter[str]

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _TOLD_ELSEWHERE or record.name.startswith(_OF_STRANGERS):
            return
        if self._has_told_enough(record.name):
            return
        try:
            _capture(record)
        except Exception:  # noqa: BLE001  # whoever logs an error must not get another for it
            self.handleError(record)

    def _has_told_enough(self, logger: str) -> bool:
        """Within the handler's lock, as all of `emit`."""
        if (minute := int(time.monotonic() // 60)) != self._minute:
            self._minute, self._told = minute, Counter()
        self._told[logger] += 1
        return self._told[logger] > A_MINUTE


def _capture(record: logging.LogRecord) -> None:
    from sentry_sdk import capture_event, get_client  # as above
    from sentry_sdk.utils import event_from_exception

    said = dict(record.msg) if isinstance(record.msg, dict) else {"event": record.getMessage()}
    named = said.pop("exc_info", None)
    error = named if isinstance(named, BaseException) else record.exc_info
    about: Event = {
        "level": "error",
        "logger": record.name,
        "logentry": {"formatted": str(said.pop("event", ""))},
        "tags": {"request_id": said.get("request_id") or request_id.get()},
        "extra": said,
    }
    if error is None:
        capture_event(about)
        return
    event, hint = event_from_exception(error, get_client().options)
    capture_event({**event, **about}, hint)


def _scrubbed(event: Any, _hint: Any) -> Any:
    """Headers and cookies are dropped whole; the rest is masked as in the logs."""
    request = event.get("request", {})
    for part in ("headers", "cookies", "data", "env", "query_string"):
        request.pop(part, None)
    event.pop("user", None)
    return scrub(event)
