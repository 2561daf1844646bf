"""Errors go to Sentry when SENTRY_DSN is set, without secrets, bodies or people."""

from __future__ import annotations

from typing import Any

from mooring.logs import scrub


def start_reporting(dsn: str) -> None:
    import sentry_sdk  # large, and most installations have no DSN
    from sentry_sdk.integrations.django import DjangoIntegration

    sentry_sdk.init(
        dsn=dsn,
        send_default_pii=False,
        max_request_body_size="never",
        include_local_variables=False,
        default_integrations=False,
        integrations=[DjangoIntegration()],
        before_send=_scrubbed,
    )


def _scrubbed(event: Any, _hint: Any) -> Any:
    """Headers and cookies are dropped whole; the rest is masked as in the logs."""
    request = event.get("request", {})
    for part in ("headers", "cookies", "data", "env", "query_string"):
        request.pop(part, None)
    event.pop("user", None)
    return scrub(event)
