"""One JSON object a line on standard error, with the request id, secrets masked."""

from __future__ import annotations

import re
import sys
from contextvars import ContextVar
from typing import Any

# Where Twisted is installed, structlog imports it for adapters that nobody uses here: a tenth of a start.
sys.modules.setdefault("structlog.twisted", None)  # type: ignore[arg-type]  # None is how Python says "not to be had"

import structlog  # noqa: E402  # the line above has to come first

request_id: ContextVar[str] = ContextVar("request_id", default="")
_KEY = re.compile(r"moor_[A-Za-z0-9_]{8,}")
_SENSITIVE = re.compile(r"authorization|cookie|password|secret|token|api_?key", re.IGNORECASE)
MASK = "***"


def scrub(value: Any) -> Any:
    """Mask our own keys wherever they stand, and every value whose name says that it is a secret."""
    if isinstance(value, str):
        return _KEY.sub("moor_" + MASK, value)
    if isinstance(value, dict):
        return {k: MASK if _SENSITIVE.search(str(k)) else scrub(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub(item) for item in value]
    return value


def _add_request_id(
    _logger: object, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    if current := request_id.get():
        event.setdefault("request_id", current)
    return event


def _scrub_event(
    _logger: object, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    cleaned: structlog.types.EventDict = scrub(dict(event))
    return cleaned


def logging_config(level: str) -> dict[str, object]:
    """Value of Django's LOGGING: standard logging rendered by structlog."""
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": shared,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    _scrub_event,
                    structlog.processors.JSONRenderer(),
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "uvicorn": {"level": "WARNING", "propagate": True},
            "django.request": {"level": "ERROR", "propagate": True},
        },
    }
