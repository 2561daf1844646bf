"""Telling owners when an upstream stops answering, and when it is well again."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from mooring.audit.record import SYSTEM_ACTOR, Target, record
from servers.models import UpstreamWatch
from servers.services.telling import tell_of_health
from servers.services.watching import ALIVE

# A probe or two may fail by chance; and one lucky answer of many is no news.
UNHEALTHY_AFTER, WELL_AFTER = 3, 2
_is_newly_unhealthy = Q(state="unhealthy", run__gte=UNHEALTHY_AFTER, told_at__isnull=True)
_is_well_again = Q(state__in=ALIVE, run__gte=WELL_AFTER, told_at__isnull=False)


def news() -> list[tuple[UUID, UUID]]:
    """Tenant and id of upstreams whose owners are to be told something. In the system's scope."""
    due = UpstreamWatch.objects.filter(_is_newly_unhealthy | _is_well_again, server__deleted_at__isnull=True)
    return list(due.values_list("tenant_id", "id")[:1_000])


def tell(watch_id: UUID) -> bool:
    """Tell a server's owners that an upstream is unhealthy, or well again. True when there was something to tell.

    Once each: whoever changes the row tells of it.
    """
    with transaction.atomic():
        due = UpstreamWatch.objects.select_for_update(of=("self",)).select_related("server__tenant")
        watch = due.filter(_is_newly_unhealthy | _is_well_again, id=watch_id).first()
        if watch is None:
            return False
        is_well, told_at = watch.told_at is not None, watch.told_at
        watch.told_at = None if is_well else timezone.now()
        watch.save(update_fields=["told_at"])
        server = watch.server
        record(
            "upstream.recovered" if is_well else "upstream.unhealthy",
            tenant=server.tenant_id,
            actor=SYSTEM_ACTOR,
            target=Target("server", str(server.id), server.slug),
            after={
                "upstream": watch.name,
                "state": watch.state,
                "detail": watch.detail,
                "since": watch.since,
            },
        )
        tell_of_health(watch, told_at)
    return True
