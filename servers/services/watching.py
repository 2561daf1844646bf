"""Upstreams that published versions depend on: which they are, whose turn it is to be probed, what was found.

Gateways probe them and call this in a thread of their own, in the system's scope.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import router, transaction
from django.db.models import Exists, OuterRef, Q, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from mooring.errors import MooringError
from servers import manifests
from servers.models import CallRecord, Channel, Server, UpstreamProbe, UpstreamWatch
from servers.runtimes.base import Health
from servers.runtimes.http.addresses import compile_address
from servers.runtimes.http.definition import parse
from servers.runtimes.http.values import NotReady, Values
from servers.runtimes.remote.configured import endpoint_of
from servers.runtimes.remote.endpoint import Endpoint
from servers.services.secrets import secrets_of
from tenants.changes import announce

Json = dict[str, Any]
EVERY = timedelta(minutes=1)
# Of a server that nobody has called, and nothing was changed of, for a day.
IDLE_EVERY = timedelta(minutes=10)
IDLE_AFTER = timedelta(days=1)
# The first look at a new one, by when gateways serve what was published.
FIRST_AFTER = timedelta(seconds=10)
MOST_WATCHED = 50
# What one organisation may have of a claim, so that one with many that hang does not keep the others waiting.
SHARE_OF_A_CLAIM = 0.2
ALIVE = ("healthy", "degraded")


class _Target(NamedTuple):
    """`identity` tells it from others where that is not what it declares."""

    kind: str
    name: str
    declared: Json
    values: Mapping[str, str]
    identity: Json | None = None

    @property
    def source(self) -> str:
        identity = self.declared if self.identity is None else self.identity
        return hashlib.sha256(manifests.canonical_json([self.kind, identity, dict(self.values)])).hexdigest()


@dataclass(frozen=True, slots=True)
class Claimed:
    """One that this process, and no other, is to probe now: at `endpoint`, at the origin of http tools, or by asking
    the runner about the code of that digest.

    With a `problem` it cannot be asked at all.
    """

    watch: UpstreamWatch
    endpoint: Endpoint | None = None
    problem: str = ""

    @property
    def origin(self) -> str:
        return str(self.watch.declared["origin"])

    @property
    def digest(self) -> str:
        """Of uploaded code; empty for anything else."""
        return str(self.watch.declared["code"]) if self.watch.kind == "code" else ""


# ---- which they are --------------------------------------------------------------------------------------


def keep_watched(server: Server) -> None:
    """A row for each upstream that a channel's version depends on, and none for others.

    For services, in the transaction that moves a channel or changes its variables.
    """
    wanted: dict[str, tuple[_Target, list[str]]] = {}
    if server.deleted_at is None:
        for channel in Channel.objects.filter(server=server).select_related("version").order_by("name"):
            for target in _targets_of(channel.version.manifest, channel.variables, channel.name):
                wanted.setdefault(target.source, (target, []))[1].append(channel.name)
    wanted = dict(list(wanted.items())[:MOST_WATCHED])
    watches = UpstreamWatch.objects.filter(server=server)
    watches.exclude(source__in=wanted).delete()
    known = {watch.source: watch for watch in watches}
    now = timezone.now()
    for source, (target, channels) in wanted.items():
        watch = known.get(source)
        if watch is not None and (watch.channels, watch.declared) != (channels, target.declared):
            watches.filter(source=source).update(
                channels=channels, declared=target.declared, due_at=now + FIRST_AFTER
            )
    UpstreamWatch.objects.bulk_create(
        UpstreamWatch(
            tenant_id=server.tenant_id,
            server=server,
            kind=target.kind,
            name=target.name[:300],
            source=source,
            declared=target.declared,
            values=dict(target.values),
            channels=channels,
            due_at=now + FIRST_AFTER * random.uniform(1, 2),
        )
        for source, (target, channels) in wanted.items()
        if source not in known
    )


def _targets_of(manifest: Json, chosen: Mapping[str, str], channel: str) -> Iterator[_Target]:
    """Each once, in the order of the manifest. Code is one thing from version to version of a channel."""
    defaults = {name: str(about.get("default", "")) for name, about in manifest.get("variables", {}).items()}
    values = defaults | dict(chosen)
    for name, upstream in manifest.get("upstreams", {}).items():
        if "url" in upstream:
            yield _Target("remote", name, upstream, _named(upstream, values))
        elif "code" in upstream:
            declared = {"code": upstream["code"]}
            yield _Target("code", name, declared, {}, {"upstream": name, "channel": channel})
    origins = (_origin_of(tool["http"], values) for tool in manifest.get("tools", []) if "http" in tool)
    for origin in dict.fromkeys(origins):
        if origin:
            yield _Target("http", origin, {"origin": origin}, {})


def _named(upstream: Json, values: Mapping[str, str]) -> dict[str, str]:
    """The variables that a declaration names, with their values."""
    named: dict[str, str] = {}

    def noted(name: str) -> str | None:
        if name in values:
            named[name] = values[name]
        return values.get(name)

    asked = Values(noted, lambda name: None)
    for text in (upstream["url"], *upstream.get("headers", {}).values()):
        asked.fill(text)
    return named


def _origin_of(http: Json, values: Mapping[str, str]) -> str:
    """Where a tool's requests go, or "" when that cannot be said: then its calls cannot be sent either."""
    try:
        definition = parse(http)
        return compile_address(
            definition.url, definition.parameters, Values(values.get, lambda name: "x")
        ).origin
    except (ValueError, NotReady):
        return ""


# ---- whose turn it is ------------------------------------------------------------------------------------


def claim_due(most: int) -> list[Claimed]:
    """Those that are due, the longest first, claimed by putting off when they are due again; at most `most`.

    Of two processes that see the same one, exactly one changes the row that both have seen, and that one has it.
    """
    now = timezone.now()
    called = CallRecord.objects.filter(
        tenant_id=OuterRef("tenant_id"), server_id=OuterRef("server_id"), time__gte=now - IDLE_AFTER
    )
    due = (
        UpstreamWatch.objects.filter(
            due_at__lte=now,
            server__deleted_at__isnull=True,
            server__tenant__deleted_at__isnull=True,
            server__tenant__suspended_at__isnull=True,
        )
        .annotate(
            place=Window(RowNumber(), partition_by="tenant_id", order_by=("due_at", "id")),
            is_busy=Q(created_at__gte=now - IDLE_AFTER) | Exists(called),
        )
        .filter(place__lte=max(1, round(most * SHARE_OF_A_CLAIM)))
        .select_related("server")
        .order_by("due_at", "id")
    )
    claimed = [watch for watch in due[:most] if _claimed(watch, now)]
    return [_prepared(watch) for watch in claimed]


def _claimed(watch: Any, now: datetime) -> bool:
    watch.due_at = now + (EVERY if watch.is_busy else IDLE_EVERY)
    still_due = UpstreamWatch.objects.filter(id=watch.id, due_at__lte=now)
    return bool(still_due.update(due_at=watch.due_at))


def _prepared(watch: UpstreamWatch) -> Claimed:
    if watch.kind != "remote":
        return Claimed(watch)
    try:
        values = Values(watch.values.get, secrets_of(watch.server).get)
        return Claimed(watch, endpoint_of(watch.declared, values))
    except MooringError as problem:  # a secret that cannot be opened is no matter of the others
        return Claimed(watch, problem=problem.message)
    except NotReady as problem:
        return Claimed(watch, problem=problem.sentence)
    except ValueError as error:
        return Claimed(watch, problem=str(error))


# ---- what was found --------------------------------------------------------------------------------------


def record_probes(found: Sequence[tuple[UpstreamWatch, Health]]) -> None:
    """Keep what probes said, and what follows of it for the upstreams. One that is gone meanwhile is left out."""
    now = timezone.now()
    healths = {watch.id: health for watch, health in found}
    with transaction.atomic(using=router.db_for_write(UpstreamWatch)):
        watches = list(UpstreamWatch.objects.select_for_update().filter(id__in=healths).order_by("id"))
        were_unhealthy = {watch.id for watch in watches if watch.state == "unhealthy"}
        for watch in watches:
            _say(watch, healths[watch.id], now)
        UpstreamWatch.objects.bulk_update(
            watches, ["state", "detail", "log", "milliseconds", "since", "run", "probed_at"], batch_size=100
        )
        UpstreamProbe.objects.bulk_create(
            # A look that could not tell is none.
            _probe(watch, healths[watch.id], now)
            for watch in watches
            if watch.state != "unknown"
        )
        turned = [watch for watch in watches if (watch.state == "unhealthy") != (watch.id in were_unhealthy)]
        # Lists of servers that are made of theirs say so.
        for server, tenant in {(watch.server_id, watch.tenant_id) for watch in turned}:
            announce("server", tenant=tenant, ref=str(server))


def _say(watch: UpstreamWatch, health: Health, now: datetime) -> None:
    was_alive, is_alive = watch.state in ALIVE, health.state in ALIVE
    watch.run = watch.run + 1 if watch.state != "unknown" and was_alive == is_alive else 1
    if watch.state != health.state:
        watch.since = now
    watch.state, watch.detail = health.state, manifests.storable(health.detail)[:500]
    watch.log = manifests.storable(str(health.data.get("log", "")))
    watch.milliseconds, watch.probed_at = float(health.data.get("milliseconds", 0.0)), now


def _probe(watch: UpstreamWatch, health: Health, now: datetime) -> UpstreamProbe:
    return UpstreamProbe(
        tenant_id=watch.tenant_id,
        watch=watch,
        time=now,
        state=health.state,
        milliseconds=watch.milliseconds or 0.0,
        code=str(health.data.get("failure", ""))[:40],
        detail=watch.detail,
    )
