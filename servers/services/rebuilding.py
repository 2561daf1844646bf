"""Artifacts that a runner has lost, made once more from their uploads."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from mooring.ids import least_uuid7
from mooring.jobs.models import Job
from servers.models import Build, CallRecord, Channel, Server, Version
from servers.services.artifacts import build_of, named_code
from servers.services.builds import enqueue_build
from servers.services.channels import DRAFT, LIVE

Json = dict[str, Any]
# How a call is recorded whose artifact the runner does not have, or not as it was built.
MISSING, MOST_MISSING = ("code_missing", "code_tampered"), 100
# Calls that are read for that.
MOST_CALLS = 10_000
# What failed to be built again is left alone for so long: what calls ask for, and the rest.
AGAIN_AFTER, UNCALLED_AGAIN_AFTER = timedelta(minutes=10), timedelta(days=1)


def build_again(
    server_id: uuid.UUID,
    digest: str,
    *,
    missed_at: datetime | None = None,
    again_after: timedelta = AGAIN_AFTER,
) -> bool:
    """Wake a worker that makes an artifact which a runner has lost from its upload, unless one is at it, has been
    since `missed_at`, or has failed to less than `again_after` ago. False when no build gave it, and when the server is
    deleted.
    """
    with transaction.atomic():
        servers = Server.objects.select_for_update(no_key=True)
        held = servers.filter(id=server_id, deleted_at__isnull=True).first()
        build = build_of(held, digest) if held is not None else None
        if build is None:
            return False
        if build.job is None or (build.job.is_finished and _is_worth_it(build.job, missed_at, again_after)):
            enqueue_build(build, again_for=held)
    return True


def _is_worth_it(last: Job, missed_at: datetime | None, again_after: timedelta) -> bool:
    """What cannot be built again is not tried with every call that would need it."""
    ended = last.finished_at
    if ended is None or missed_at is None:
        return True
    return ended < (missed_at if last.state == Job.State.DONE else timezone.now() - again_after)


@dataclass(frozen=True, slots=True)
class Missed:
    """An artifact of a server that is missing at the runner, as it was found at that time."""

    tenant: uuid.UUID
    server: uuid.UUID
    digest: str
    at: datetime


def missed_code(since: datetime) -> list[Missed]:
    """What calls since then have found missing. In the system's scope.

    The data plane writes no jobs; its record of calls says what is needed. Of a server made of others it says not
    whose code it was.
    """
    # In the order of their ids and grouped here, so that SQLite looks at the young calls alone and not at all of them.
    missed = CallRecord.objects.filter(id__gte=least_uuid7(since), code__in=MISSING).order_by("id")
    latest: dict[tuple[uuid.UUID, uuid.UUID, str], datetime] = {}
    for tenant, server_id, version, time in missed.values_list("tenant_id", "server_id", "version", "time")[
        :MOST_CALLS
    ]:
        latest[tenant, server_id, version] = time
    found = []
    for (tenant, server_id, version), time in list(latest.items())[:MOST_MISSING]:
        server = Server.objects.filter(id=server_id, deleted_at__isnull=True).first()
        for owner, digest in sorted(_code_of(server, version) if server is not None else ()):
            found.append(Missed(tenant, owner, digest, time))
    return found


def _code_of(server: Server, version: str) -> set[tuple[uuid.UUID, str]]:
    """The code of a version or the draft, and that of its members: the server, and the artifact."""
    manifest = _manifest_of(server, version)
    found = {(server.id, digest) for digest in named_code(manifest)}
    for member in manifest.get("members", []):
        owners = Server.objects.filter(
            tenant_id=server.tenant_id, slug=member["server"], deleted_at__isnull=True
        )
        wanted = member.get("channel", LIVE)
        found |= {(one.server, one.digest) for one in _served(owners, wanted)}
        if wanted[:1].isdigit():
            # Members of a member are not served.
            found |= {(one.id, digest) for one in owners for digest in named_code(_manifest_of(one, wanted))}
    return found


def _manifest_of(server: Server, version: str) -> Json:
    """Upstreams and members, at least, of a version or the draft; nothing of a version that never was."""
    if version == DRAFT:
        return {"upstreams": server.upstreams, "members": server.members}
    row = Version.objects.filter(server=server, number=version).first()
    return row.manifest if row is not None else {}


def worth_a_try(lost: Iterable[Missed], again_after: timedelta) -> list[Missed]:
    """Without what is being built, and what has failed to be less than `again_after` ago. In the system's scope."""
    found = list(lost)
    at_it = Q(job__state__in=(Job.State.WAITING, Job.State.RUNNING))
    failed = Q(job__state=Job.State.FAILED, job__finished_at__gte=timezone.now() - again_after)
    builds = Build.objects.filter(at_it | failed, artifact__in={one.digest for one in found})
    left_alone = set(builds.values_list("tenant_id", "artifact"))
    return [one for one in found if (one.tenant, one.digest) not in left_alone]


def named_by_servers() -> list[Missed]:
    """The code that drafts and channels of all servers name. In the system's scope."""
    living = Server.objects.filter(deleted_at__isnull=True)
    now = timezone.now()
    drafts = living.values_list("tenant_id", "id", "upstreams").iterator(chunk_size=500)
    drafted = {
        (tenant, server, digest)
        for tenant, server, upstreams in drafts
        for digest in named_code({"upstreams": upstreams})
    }
    with_code = living.filter(Q(id__in={server for _, server, _ in drafted}) | Q(builds__isnull=False))
    named = {Missed(*one, now) for one in drafted} | _served(with_code.distinct(), at=now)
    return sorted(named, key=lambda one: (one.digest, one.server))


def _served(servers: QuerySet[Server], channel: str = "", at: datetime | None = None) -> set[Missed]:
    """The code of what a channel serves, or any channel."""
    channels = Channel.objects.filter(server__in=servers, **({"name": channel} if channel else {}))
    rows = channels.values_list("tenant_id", "server_id", "version__manifest").iterator(chunk_size=50)
    return {
        Missed(tenant, server, digest, at or timezone.now())
        for tenant, server, manifest in rows
        for digest in named_code(manifest)
    }
