"""System checks that refuse a production which is not safe (`manage.py check --deploy`, `mooring serve`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution
from django.db import DatabaseError, connections

from mooring import environment as env
from mooring.egress.guard import Guard

_LOCAL = {"localhost", "127.0.0.1", "[::1]"}


def hosts(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Production has an address of its own, and says so."""
    if settings.EMBEDDED:
        return []
    if not env.text("MOORING_URL"):
        return [Error("MOORING_URL is not set. Set it to the address people use.", id="mooring.E001")]
    if "*" in settings.ALLOWED_HOSTS:
        return [Error("MOORING_HOSTS must name hosts; `*` admits any.", id="mooring.E002")]
    if not settings.SECURE and not _LOCAL & set(settings.ALLOWED_HOSTS):
        text = "MOORING_URL starts with http://. Keys and passwords would travel in the clear."
        return [Caution(text, hint="Put a proxy with TLS in front and use https://.", id="mooring.W001")]
    return []


def egress(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """A mistyped network is told at start, not by the first call that needs it."""
    try:
        Guard(allow=settings.EGRESS_ALLOW)
    except ValueError as error:
        return [
            Error(f"MOORING_EGRESS_ALLOW: {error}. Write networks such as 10.0.0.0/8.", id="mooring.E007")
        ]
    return []


def database_roles(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Row-level security holds only for a role that is neither superuser nor owner nor allowed to bypass it."""
    if connections["default"].vendor != "postgresql":
        return []
    try:
        with connections["default"].cursor() as cursor:
            cursor.execute(QUESTION)
            role, *answers = cursor.fetchone()
    except DatabaseError as error:
        text = f"The database of DATABASE_URL cannot be asked: {str(error).strip()}"
        return [Error(text, id="mooring.E003")]
    return findings(role, *answers)


QUESTION = """
    SELECT rolname, rolsuper OR rolbypassrls,
        EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public' AND tableowner = current_user),
        EXISTS (SELECT FROM pg_roles WHERE rolname = 'mooring_system' AND pg_has_role(current_user, oid, 'member'))
    FROM pg_roles WHERE rolname = current_user
"""


def findings(role: str, may_bypass: bool, is_owner: bool, is_system: bool) -> list[CheckMessage]:
    """What is wrong with a role, from the row that `QUESTION` answers."""
    hint = "Let DATABASE_URL name a role that is only a member of mooring_app; see docs/operate.md."
    reasons = {
        "mooring.E004": may_bypass and "is a superuser or may bypass row-level security",
        "mooring.E005": is_owner and "owns the tables",
        "mooring.E006": is_system and not may_bypass and "is a member of mooring_system",
    }
    return [
        Error(f"The role {role!r} of DATABASE_URL {reason}.", hint=f"One wall is missing. {hint}", id=number)
        for number, reason in reasons.items()
        if reason
    ]
