"""Telling owners when an upstream stops answering, and when it is well again: one letter for all that is new."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from mooring.audit.record import SYSTEM_ACTOR, Target, record
from servers.models import Server, UpstreamProbe, UpstreamWatch
from servers.services.telling import News, tell_of_health
from servers.services.watching import ALIVE

# A probe or two may fail by chance; and one lucky answer of many is no news.
UNHEALTHY_AFTER, WELL_AFTER = 3, 2
# About one server. What comes beyond waits until an hour has passed since the first of them, if it is news still.
LETTERS_AN_HOUR, HOUR = 4, timedelta(hours=1)
_is_newly_unhealthy = Q(state="unhealthy", run__gte=UNHEALTHY_AFTER, told_at__isnull=True)
_is_well_again = Q(state__in=ALIVE, run__gte=WELL_AFTER, told_at__isnull=False)


def news() -> list[tuple[UUID, UUID]]:
    """Tenant and id of servers whose owners are to be told something. In the system's scope."""
    due = UpstreamWatch.objects.filter(_is_newly_unhealthy | _is_well_again, server__deleted_at__isnull=True)
    return list(due.order_by().values_list("tenant_id", "server_id").distinct()[:1_000])


def tell(server_id: UUID) -> bool:
    """Tell a server's owners which upstreams are unhealthy, or well again. True when a letter was written.

    Once each: whoever has the server's row tells of them.
    """
    with transaction.atomic():
        server = Server.objects.select_for_update(of=("self",)).select_related("tenant").get(id=server_id)
        now = timezone.now()
        written = [at for at in server.health_letters if datetime.fromisoformat(at) > now - HOUR]
        if len(written) >= LETTERS_AN_HOUR:
            return False
        due = UpstreamWatch.objects.filter(_is_newly_unhealthy | _is_well_again, server=server)
        told = [_noted(server, watch, now) for watch in due]
        if not told:
            return False
        written.append(now.isoformat())
        # Not by `save`, which would count as a change of the server.
        Server.objects.filter(id=server.id).update(health_letters=written)
        silent_until = datetime.fromisoformat(written[0]) + HOUR if len(written) >= LETTERS_AN_HOUR else None
        tell_of_health(server, told, silent_until)
    return True


def _noted(server: Server, watch: UpstreamWatch, now: datetime) -> News:
    """Written down as told."""
    is_well, told_at = watch.told_at is not None, watch.told_at
    watch.told_at = None if is_well else now
    watch.save(update_fields=["told_at"])
    failures = _failures_of(watch, now - HOUR)
    after: dict[str, Any] = {"upstream": watch.name, "state": watch.state, "detail": watch.detail}
    record(
        "upstream.recovered" if is_well else "upstream.unhealthy",
        tenant=server.tenant_id,
        actor=SYSTEM_ACTOR,
        target=Target("server", str(server.id), server.slug),
        after=after | {"since": watch.since, "times_within_the_hour": failures},
    )
    return News(watch, told_at, failures)


def _failures_of(watch: UpstreamWatch, since: datetime) -> int:
    """How often it has stopped answering since then, or had before."""
    probes = UpstreamProbe.objects.filter(watch=watch, time__gte=since).order_by("time", "id")
    states = probes.values_list("state", flat=True)
    return sum(not is_alive for is_alive, _ in groupby(states, key=lambda state: state in ALIVE))
