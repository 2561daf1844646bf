"""Mail to those who can do something about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

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


class News(NamedTuple):
    """That an upstream is unhealthy, or well again when it was said at `told_at` that it is not.

    `failures` is how often it has stopped answering within an hour.
    """

    watch: UpstreamWatch
    told_at: datetime | None
    failures: int


def tell_of_health(server: Server, news: Sequence[News], silent_until: datetime | None) -> None:
    """Write to the owners, once the change is committed. With `silent_until` it is the last letter before then."""
    owners = [member for member in _members(server) if member.role == "owner"]
    _send(owners, *_health_letter(server, news, silent_until))


def _members(server: Server) -> Iterable[Membership]:
    members: Iterable[Membership] = Membership.objects.filter(
        tenant_id=server.tenant_id, user__is_active=True
    ).select_related("user", "tenant")
    return members


def _send(readers: Sequence[Membership], subject: str, text: str) -> None:
    letters = [(subject, text, None, [member.user.email]) for member in readers[:MOST_READERS]]
    transaction.on_commit(lambda: send_mass_mail(letters, fail_silently=True))


def _health_letter(server: Server, news: Sequence[News], silent_until: datetime | None) -> tuple[str, str]:
    title = _one_line(server.title)
    page = f"{settings.ORIGIN}/app/{server.tenant.slug}/servers/{server.slug}/health/"
    subject = f"{title}: {_headline(news[0])}" + (f", and {len(news) - 1} more" if len(news) > 1 else "")
    lines: list[str] = []
    for one in news[:MOST_NAMED]:
        lines += [*_paragraph(title, one), ""]
    if len(news) > MOST_NAMED:
        lines += [f"Its page tells of {len(news) - MOST_NAMED} more.", ""]
    if silent_until is not None:
        lines += [
            f"These were many letters, so there is none about {title} before {_stamp(silent_until)}.",
            "",
        ]
    return subject, "\n".join([*lines, f"See how it has been: {page}"])


def _headline(news: News) -> str:
    name = _one_line(news.watch.name)
    if news.told_at is not None:
        return f"{name} is well again"
    return f"{name} does not run" if news.watch.kind == "code" else f"{name} does not answer"


def _paragraph(title: str, news: News) -> list[str]:
    watch, name = news.watch, _one_line(news.watch.name)
    often = [f"It has failed {news.failures} times within an hour."] if news.failures > 1 else []
    if news.told_at is not None:
        return [
            f"{title} depends on {name}, which answers again since {_stamp(watch.since)}.",
            f"You were told on {_stamp(news.told_at)} that it did not.",
            *often,
        ]
    return [
        f"{title} depends on {name}, which has been unhealthy since {_stamp(watch.since)}:",
        "",
        f"  {_one_line(watch.detail)}",
        *(f"  | {_printable(line)}" for line in watch.log.splitlines()),
        "",
        *often,
        "Calls that need it fail until it answers again, or get remembered answers where a tool allows that.",
        "You get one more letter when it is well again.",
    ]


def _stamp(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment is not None else "a while ago"


def _printable(line: str) -> str:
    """What a program has written must not steer the terminal of who reads it."""
    return "".join(mark if mark.isprintable() else "\ufffd" for mark in line)


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
