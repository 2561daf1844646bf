"""Operational switches over the tools of a server: they hold at once, on every channel, until taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from mooring.audit.record import Actor
from mooring.errors import Conflict, InvalidInput, NotFound
from servers import manifests
from servers.models import Override, Server
from servers.services.recording import locked, note

MAX_OVERRIDES = 200
MAX_ANSWER_BYTES = 64 * 1024
MAX_DELAY_MS = 30_000
_MAX_TEXT = 500


def set_override(
    server: Server,
    *,
    actor: Actor,
    kind: str,
    tool: str = "",
    settings: Mapping[str, Any] | None = None,
    reason: str = "",
    expires_at: datetime | None = None,
) -> Override:
    """Switch it on, or change the one that is on. `tool` "" means every tool; the tool need not exist yet.

    Raises `InvalidInput`, also for an answer or a share that cannot be.
    """
    checked = _checked(kind, dict(settings or {}))
    _check_wording(tool, reason, expires_at)
    with transaction.atomic():
        held = locked(server)
        before = Override.objects.filter(server=held, tool=tool, kind=kind).first()
        if before is None and Override.objects.filter(server=held).count() >= MAX_OVERRIDES:
            raise Conflict(f"A server has at most {MAX_OVERRIDES} switches.", code="too_many_overrides")
        saved: Override
        saved, _ = Override.objects.update_or_create(
            tenant_id=server.tenant_id,
            server=held,
            tool=tool,
            kind=kind,
            defaults={
                "settings": checked,
                "reason": reason,
                "author": actor.name[:254],
                "expires_at": expires_at,
            },
        )
        note(held, "override.set", actor=actor, before=before and told(before), after=told(saved))
    return saved


def clear_override(override: Override, *, actor: Actor) -> None:
    """Take a switch back. Raises `NotFound` when somebody did already."""
    with transaction.atomic():
        held = locked(override.server)
        if not Override.objects.filter(id=override.id).delete()[0]:
            raise NotFound("There is no such switch any more.")
        note(held, "override.cleared", actor=actor, before=told(override))


def active_overrides(server: Server) -> list[Override]:
    """Those that hold now; the ones for every tool first."""
    now = timezone.now()
    return list(
        Override.objects.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), server=server).order_by(
            "tool", "kind"
        )
    )


def told(override: Override) -> dict[str, Any]:
    """For the audit log and the API."""
    return {
        "kind": override.kind,
        "tool": override.tool,
        "settings": override.settings,
        "reason": override.reason,
        "expires_at": override.expires_at,
    }


def override_row(override: Override) -> dict[str, Any]:
    """As the API and the command line show it."""
    about = {"id": str(override.id), "author": override.author, "created_at": override.created_at}
    return about | told(override)


def _check_wording(tool: str, reason: str, expires_at: datetime | None) -> None:
    if len(tool) > 128 or not manifests.is_storable(tool):
        raise InvalidInput("That is no name of a tool.", fields={"tool": ["Choose a tool."]})
    if len(reason) > _MAX_TEXT or not manifests.is_storable(reason):
        raise InvalidInput(
            f"A reason has at most {_MAX_TEXT} characters.", fields={"reason": ["Shorten it."]}
        )
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidInput("A switch ends in the future.", fields={"expires_at": ["Choose a time to come."]})


def _checked(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    check = _CHECKS.get(kind)
    if check is None:
        raise InvalidInput("A switch is one of disable, mock and fault.", fields={"kind": ["Choose one."]})
    return check(settings)


def _no_settings(settings: dict[str, Any]) -> dict[str, Any]:
    if settings:
        raise InvalidInput("A disabled tool has no settings.", fields={"settings": ["Leave them out."]})
    return {}


def _mock(settings: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = manifests.plain(settings)
    content = answer.get("content", [])
    is_content = isinstance(content, list) and all(
        isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str)
        for block in content
    )
    if set(answer) - {"content", "structured"} or not answer or not is_content:
        raise InvalidInput(
            'A mocked answer is {"content": [{"type": "text", "text": "…"}]}, {"structured": …} or both.',
            fields={"settings": ["Write content, structured or both."]},
        )
    if len(manifests.canonical_json(answer)) > MAX_ANSWER_BYTES:
        raise InvalidInput(
            f"A mocked answer has at most {MAX_ANSWER_BYTES // 1024} KiB.",
            fields={"settings": ["Shorten it."]},
        )
    return answer


def _fault(settings: dict[str, Any]) -> dict[str, Any]:
    share, delay, error = (settings.pop(name, None) for name in ("share", "delay_ms", "error"))
    problems: dict[str, list[str]] = {}
    if settings:
        problems["settings"] = ["A fault has share, delay_ms and error."]
    if not _is_number(share) or not 0 < share <= 1:
        problems["share"] = ["Say which share of the calls: above 0, at most 1."]
    if delay is not None and (not _is_number(delay) or not 0 < delay <= MAX_DELAY_MS):
        problems["delay_ms"] = [f"Between 1 and {MAX_DELAY_MS} milliseconds."]
    if error is not None and (not isinstance(error, str) or not 0 < len(error) <= _MAX_TEXT):
        problems["error"] = [f"A text of at most {_MAX_TEXT} characters."]
    if not problems and delay is None and error is None:
        problems["settings"] = ["Give a delay, an error or both."]
    if problems:
        raise InvalidInput(next(iter(problems.values()))[0], fields=problems)
    made = {"share": share, "delay_ms": delay, "error": error}
    return {name: value for name, value in made.items() if value is not None}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_CHECKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "disable": _no_settings,
    "mock": _mock,
    "fault": _fault,
}
