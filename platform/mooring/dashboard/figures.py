"""Numbers about calls, computed from the record with bounded work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from uuid import UUID

from django.db.models import Count, Q, QuerySet
from django.db.models.functions import TruncHour
from django.utils import timezone

from mooring.dashboard.drawing import Chart, chart
from servers.models import CallRecord

HOURS = 24
# Percentiles are taken over the newest calls, so that a busy day costs no more than a quiet one.
_SAMPLE = 2_000
_FAILED = ~Q(status="ok")


@dataclass(frozen=True, slots=True)
class Day:
    """The last 24 hours, oldest hour first."""

    calls: list[int]
    errors: list[int]
    p95: int | None
    p95_by_hour: list[int]
    chart: Chart

    @property
    def total(self) -> int:
        return sum(self.calls)

    @property
    def failed(self) -> int:
        return sum(self.errors)

    @property
    def share(self) -> float | None:
        return self.failed / self.total if self.total else None


def last_day(records: QuerySet[CallRecord]) -> Day:
    hours = _hours()
    recent = records.filter(time__gte=hours[0])
    calls, errors = _by_hour(recent, hours)
    newest = list(recent.order_by("-time", "-id").values_list("time", "duration_us")[:_SAMPLE])
    return Day(
        calls=calls,
        errors=errors,
        p95=percentile([us for _, us in newest]),
        p95_by_hour=[percentile([us for time, us in newest if _hour(time) == hour]) or 0 for hour in hours],
        chart=chart(calls, errors, [f"{hour:%H}:00" for hour in hours[::4]] + ["now"]),
    )


def _by_hour(recent: QuerySet[CallRecord], hours: list[datetime]) -> tuple[list[int], list[int]]:
    counted = (
        recent.order_by()
        .annotate(hour=TruncHour("time"))
        .values("hour")
        .annotate(calls=Count("id"), errors=Count("id", filter=_FAILED))
    )
    found = {row["hour"]: (row["calls"], row["errors"]) for row in counted}
    pairs = [found.get(hour, (0, 0)) for hour in hours]
    return [calls for calls, _ in pairs], [errors for _, errors in pairs]


@dataclass(slots=True)
class Traffic:
    """One server's last 24 hours by hour, and the last hour's p95 in microseconds."""

    by_hour: list[int] = field(default_factory=lambda: [0] * HOURS)
    p95: int | None = None

    @property
    def total(self) -> int:
        return sum(self.by_hour)


def traffic(records: QuerySet[CallRecord], servers: Iterable[UUID]) -> dict[UUID, Traffic]:
    hours = _hours()
    index = {hour: position for position, hour in enumerate(hours)}
    found = {server: Traffic() for server in servers}
    counted = (
        records.filter(time__gte=hours[0], server_id__in=found)
        .order_by()
        .annotate(hour=TruncHour("time"))
        .values("server_id", "hour")
        .annotate(calls=Count("id"))
    )
    for row in counted:
        if row["hour"] in index:
            found[row["server_id"]].by_hour[index[row["hour"]]] = row["calls"]
    for server, figures in found.items():
        if figures.total:
            newest = records.filter(server_id=server, time__gte=hours[0]).order_by("-time", "-id")
            figures.p95 = percentile(list(newest.values_list("duration_us", flat=True)[:_SAMPLE]))
    return found


def percentile(values: list[int], share: float = 0.95) -> int | None:
    """The smallest value that at least `share` of the values do not exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[ceil(share * len(ordered)) - 1]


def _hours() -> list[datetime]:
    now = _hour(timezone.now())
    return [now - timedelta(hours=HOURS - 1 - back) for back in range(HOURS)]


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
