"""Probes counted by the hour: how many there were, and how many found the upstream alive."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Literal
from uuid import UUID

from django.db import IntegrityError
from django.db.models import Avg, Count, Max, Model, Q
from django.db.models.functions import TruncHour
from django.utils import timezone

from servers.models import UpstreamHour, UpstreamProbe, UpstreamWatch
from servers.services.watching import ALIVE

State = Literal["unknown", "healthy", "degraded", "unhealthy"]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PROBES_KEPT = timedelta(days=2)
HOURS_KEPT = timedelta(days=90)
_ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Hour:
    """`mean` is milliseconds, of the probes that found it alive; None when there were none."""

    hour: datetime
    probes: int = 0
    alive: int = 0
    degraded: int = 0
    mean: float | None = None

    @property
    def state(self) -> State:
        """Of the hour as a whole: as bad as the worst probe in it."""
        if not self.probes:
            return "unknown"
        if self.alive < self.probes:
            return "unhealthy"
        return "degraded" if self.degraded else "healthy"


def hours_of(watches: Sequence[UpstreamWatch], now: datetime) -> dict[UUID, dict[datetime, Hour]]:
    """By watch and hour: the last day from the probes themselves, thirty days before from what was rolled up."""
    found: dict[UUID, dict[datetime, Hour]] = defaultdict(dict)
    rolled = UpstreamHour.objects.filter(watch__in=watches, hour__gte=now - 30 * DAY)
    for watch, *row in rolled.values_list("watch_id", "hour", "probes", "alive", "degraded", "mean"):
        found[watch][row[0]] = Hour(*row)
    for row in _counted(UpstreamProbe.objects.filter(watch__in=watches, time__gte=hour_of(now) - DAY)):
        made = Hour(row["hour"], row["probes"], row["alive"], row["degraded"], row["mean"])
        found[row["watch_id"]][made.hour] = made
    return found


def _counted(probes: Any) -> Any:
    """Of each watch and hour, how many probes there were and what they found."""
    alive = Q(state__in=ALIVE)
    return (
        probes.order_by()
        .annotate(hour=TruncHour("time"))
        .values("tenant_id", "watch_id", "hour")
        .annotate(
            probes=Count("id"),
            alive=Count("id", filter=alive),
            degraded=Count("id", filter=Q(state="degraded")),
            mean=Avg("milliseconds", filter=alive),
            slowest=Max("milliseconds", filter=alive),
        )
    )


def share_alive(hours: Iterable[Hour], since: datetime) -> float | None:
    """Of the probes since then that found it alive; the hour of `since` counts whole."""
    counted = [(hour.alive, hour.probes) for hour in hours if hour.hour >= hour_of(since)]
    probes = sum(probes for _, probes in counted)
    return sum(alive for alive, _ in counted) / probes if probes else None


def hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


# ---- for beat, in the system's scope ---------------------------------------------------------------------


def roll_up() -> int:
    """Count the probes of every hour that is over. Returns how many rows were written.

    The last hour that was counted is counted again, so that a probe that came late is in it.
    """
    over = hour_of(timezone.now())
    last = UpstreamHour.objects.aggregate(last=Max("hour"))["last"] or over - PROBES_KEPT
    rows = _counted(UpstreamProbe.objects.filter(time__gte=last, time__lt=over)).iterator(chunk_size=2_000)
    return sum(_written(batch) for batch in _batches(UpstreamHour(**row) for row in rows))


def _batches(rows: Iterable[UpstreamHour]) -> Iterator[list[UpstreamHour]]:
    rest = iter(rows)
    while batch := list(islice(rest, _ROWS_AT_ONCE)):
        yield batch


def _written(batch: list[UpstreamHour]) -> int:
    try:
        made = UpstreamHour.objects.bulk_create(
            batch,
            update_conflicts=True,
            unique_fields=["tenant", "watch", "hour"],
            update_fields=["probes", "alive", "degraded", "mean", "slowest"],
        )
    except IntegrityError:
        return 0  # an upstream went meanwhile; the next run counts this hour again without it
    return len(made)


def forget(at_once: int = 5_000, batches: int = 50) -> int:
    """Delete what is too old to keep, some at a time. Returns how many rows."""
    now = timezone.now()
    return _deleted(UpstreamProbe, at_once, batches, time__lt=now - PROBES_KEPT) + _deleted(
        UpstreamHour, at_once, batches, hour__lt=now - HOURS_KEPT
    )


def _deleted(model: type[Model], at_once: int, batches: int, **old: datetime) -> int:
    deleted = 0
    rows = model._default_manager.filter(**old).values("id")
    for _ in range(batches):
        count, _ = model._default_manager.filter(id__in=rows[:at_once]).delete()
        deleted += count
        if count < at_once:
            break
    return deleted
