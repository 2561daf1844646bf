"""How the upstreams of a server are and have been, for its page and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from servers.models import Channel, Server, UpstreamProbe, UpstreamWatch
from servers.services.uptime import DAY, HOUR, Hour, State, hour_of, hours_of, share_alive
from servers.services.watching import ALIVE, IDLE_EVERY

Json = dict[str, Any]
MOST_FAILURES = 20
# Failed looks that are read for that; in two days there may be thousands, most of them alike.
_LOOKS = 1_000
_WORST: tuple[State, ...] = ("unhealthy", "degraded", "unknown", "healthy")
_SPANS = {"24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY}


@dataclass(frozen=True, slots=True)
class UpstreamHealth:
    """One upstream. `day` has its last 24 hours, oldest first; `uptime` is by span, from 0 to 1, or None."""

    watch: UpstreamWatch
    server: str
    day: list[Hour]
    uptime: dict[str, float | None]

    @property
    def is_fresh(self) -> bool:
        """Whether a gateway has looked lately."""
        seen = self.watch.probed_at
        return seen is not None and seen >= timezone.now() - 3 * IDLE_EVERY

    @property
    def state(self) -> State:
        """What no gateway has looked at for long is not known any more."""
        return self.watch.state if self.is_fresh else "unknown"  # type: ignore[return-value]  # one of its choices

    @property
    def is_alive(self) -> bool:
        return self.state in ALIVE


@dataclass(frozen=True, slots=True)
class Failure:
    """Looks at one upstream that found the same one after the other, without a better one in between for long."""

    watch: UpstreamWatch
    state: str
    code: str
    detail: str
    first: datetime
    last: datetime
    times: int = 1


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """Of all that a server's published versions depend on. Its own `state` is that of the worst."""

    upstreams: list[UpstreamHealth]
    failures: list[Failure]
    is_published: bool

    @property
    def state(self) -> State:
        found = {upstream.state for upstream in self.upstreams}
        return next((state for state in _WORST if state in found), "healthy")


# ---- for people and programs -----------------------------------------------------------------------------


def health_of(server: Server) -> ServerHealth:
    """Of a server that is made of others, what those depend on, which is what its own callers notice."""
    whose = {server.id: server.slug} | _members(server)
    watches = list(UpstreamWatch.objects.filter(server_id__in=whose))
    hours = hours_of(watches, timezone.now())
    failed = UpstreamProbe.objects.filter(watch__in=watches).exclude(state="healthy")[:_LOOKS]
    return ServerHealth(
        [_of(watch, whose[watch.server_id], hours[watch.id]) for watch in watches],
        _failures(failed, {watch.id: watch for watch in watches}),
        Channel.objects.filter(server=server).exists(),
    )


def unhealthy_upstreams(server: Server, channel: str = "", most: int = 3) -> list[str]:
    """Names of a few, for a notice; with a `channel`, of those that what it serves depends on."""
    lately = timezone.now() - 3 * IDLE_EVERY
    unhealthy = UpstreamWatch.objects.filter(server=server, state="unhealthy", probed_at__gte=lately)
    return [watch.name for watch in unhealthy if not channel or channel in watch.channels][:most]


def _failures(probes: Iterable[UpstreamProbe], watches: Mapping[UUID, UpstreamWatch]) -> list[Failure]:
    """The newest first; `probes` are too."""
    found: list[Failure] = []
    at: dict[UUID, int] = {}  # each upstream's place in `found` that may still grow into the past
    for probe in probes:
        place = at.get(probe.watch_id)
        if place is not None and _continues(found[place], probe):
            found[place] = replace(found[place], first=probe.time, times=found[place].times + 1)
        elif len(found) < MOST_FAILURES:
            at[probe.watch_id] = len(found)
            told = probe.state, probe.code, probe.detail
            found.append(Failure(watches[probe.watch_id], *told, probe.time, probe.time))
        else:
            break
    return found


def _continues(failure: Failure, earlier: UpstreamProbe) -> bool:
    is_alike = (failure.state, failure.detail) == (earlier.state, earlier.detail)
    return is_alike and failure.first - earlier.time <= 2 * IDLE_EVERY


def _members(server: Server) -> dict[UUID, str]:
    channels = Channel.objects.filter(server=server).select_related("version")
    slugs = {
        member["server"] for channel in channels for member in channel.version.manifest.get("members", [])
    }
    rows = Server.objects.filter(tenant_id=server.tenant_id, slug__in=slugs, deleted_at__isnull=True)
    return dict(rows.values_list("id", "slug"))


def _of(watch: UpstreamWatch, server: str, hours: dict[datetime, Hour]) -> UpstreamHealth:
    now = timezone.now()
    last = [hour_of(now) - back * HOUR for back in range(23, -1, -1)]
    return UpstreamHealth(
        watch,
        server,
        [hours.get(hour, Hour(hour)) for hour in last],
        {name: share_alive(hours.values(), now - span) for name, span in _SPANS.items()},
    )


# ---- rows, as the API shows them -------------------------------------------------------------------------


def health_row(health: ServerHealth, *, with_logs: bool) -> Json:
    """What code has said is for those who may read its log."""
    return {
        "state": health.state,
        "upstreams": [
            _upstream_row(upstream) | {"log": upstream.watch.log if with_logs else ""}
            for upstream in health.upstreams
        ],
        "failures": [_failure_row(failure) for failure in health.failures],
    }


def _upstream_row(upstream: UpstreamHealth) -> Json:
    watch = upstream.watch
    return {
        "name": watch.name,
        "kind": watch.kind,
        "server": upstream.server,
        "channels": watch.channels,
        "state": upstream.state,
        "detail": watch.detail,
        "since": watch.since,
        "probed_at": watch.probed_at,
        "milliseconds": watch.milliseconds,
        "uptime": upstream.uptime,
        "hours": [
            {"hour": hour.hour, "probes": hour.probes, "alive": hour.alive, "mean": hour.mean}
            for hour in upstream.day
        ],
    }


def _failure_row(failure: Failure) -> Json:
    return {
        "upstream": failure.watch.name,
        "kind": failure.watch.kind,
        "state": failure.state,
        "code": failure.code,
        "detail": failure.detail,
        "first": failure.first,
        "last": failure.last,
        "times": failure.times,
    }
