"""Mail to those who can do something about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.conf import settings
from django.core.mail import send_mass_mail
from django.db import transaction

from servers.models import Server, UpstreamWatch
from servers.services.drift import Drift
from tenants.models import Membership

MOST_NAMED = 20
MOST_READERS = 100


def tell_of_drifts(server: Server, drifts: Sequence[Drift]) -> None:
    """Write, once the change is committed, to the members who may publish, that parts of `live` are held back."""
    if not drifts:
        return
    readers = [member for member in _members(server) if "servers:publish" in member.permissions]
    _send(readers, *_letter(server, drifts))


def tell_of_health(watch: UpstreamWatch, told_at: datetime | None) -> None:
    """Write, once the change is committed, to the owners, that an upstream of a server is unhealthy, or well again."""
    owners = [member for member in _members(watch.server) if member.role == "owner"]
    _send(owners, *_health_letter(watch, told_at))


def _members(server: Server) -> Iterable[Membership]:
    members: Iterable[Membership] = Membership.objects.filter(
        tenant_id=server.tenant_id, user__is_active=True
    ).select_related("user", "tenant")
    return members


def _send(readers: Sequence[Membership], subject: str, text: str) -> None:
    letters = [(subject, text, None, [member.user.email]) for member in readers[:MOST_READERS]]
    transaction.on_commit(lambda: send_mass_mail(letters, fail_silently=True))


def _health_letter(watch: UpstreamWatch, told_at: datetime | None) -> tuple[str, str]:
    """`told_at` is when it was said to be unhealthy; without one, that is the news."""
    server = watch.server
    title, name = _one_line(server.title), _one_line(watch.name)
    page = f"{settings.ORIGIN}/app/{server.tenant.slug}/servers/{server.slug}/health/"
    if told_at is None:
        subject = f"{title}: {name} does not answer"
        lines = [
            f"{title} depends on {name}, which has been unhealthy since {_stamp(watch.since)}:",
            "",
            f"  {_one_line(watch.detail)}",
            "",
            "Calls that need it fail until it answers again, or get remembered answers where a tool allows that.",
            "You get one more letter when it is well again.",
        ]
    else:
        subject = f"{title}: {name} is well again"
        lines = [
            f"{title} depends on {name}, which answers again since {_stamp(watch.since)}.",
            f"You were told on {_stamp(told_at)} that it did not.",
        ]
    return subject, "\n".join([*lines, "", f"See how it has been: {page}"])


def _stamp(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment is not None else "a while ago"


def _one_line(text: str) -> str:
    """A letter's subject is one line, whatever somebody else called a thing."""
    return " ".join(text.split())[:200]


def _letter(server: Server, drifts: Sequence[Drift]) -> tuple[str, str]:
    count = len(drifts)
    noun = "part" if count == 1 else "parts"
    named = [f"  {drift.section[:-1].replace('_', ' ')} {drift.name[:100]}" for drift in drifts[:MOST_NAMED]]
    more = [f"  and {count - MOST_NAMED} more"] if count > MOST_NAMED else []
    page = f"{settings.ORIGIN}/app/{server.tenant.slug}/servers/{server.slug}/upstreams/"
    lines = [
        f"{server.title} takes {count} {noun} from a server elsewhere that has changed what it says of",
        "them. Calls of what changed are held back until somebody has looked at it:",
        "",
        *named,
        *more,
        "",
        f"See what changed, and accept it: {page}",
    ]
    return f"{server.title}: {count} {noun} changed upstream", "\n".join(lines)
