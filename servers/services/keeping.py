"""How much uploaded code an organisation may have here, and what of it goes by itself."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet, Sum, Window
from django.db.models.functions import Length, RowNumber

from mooring.errors import Conflict
from servers.models import Build, Server, Upload, Version
from servers.runner.engine import MIB
from servers.services.artifacts import named_code

# Of one organisation: its uploads, and what they were built into, each artifact as if it shared nothing.
UPLOADED_BYTES, BUILT_BYTES = 1024 * MIB, 4096 * MIB
MOST_BUILDS, MOST_AT_ONCE = 1_000, 5
# Of one server: the newest keep their logs, and of those that nothing uses only they are kept beyond a day.
NEWEST, SURPLUS_KEPT = 20, timedelta(days=1)
_UNDER_WAY = ("waiting", "running")
_RELIEF = (
    "What nothing uses goes by itself; delete servers that are no longer needed, and their code goes too."
)


# ---- what is refused -------------------------------------------------------------------------------------


def refuse_upload_beyond(size: int) -> None:
    """In the scope of its organisation. Raises `Conflict`."""
    kept = Upload.objects.aggregate(bytes=Sum("size"))["bytes"] or 0
    if kept + size > UPLOADED_BYTES:
        raise Conflict(
            f"The uploads of this organisation would take more than {UPLOADED_BYTES // MIB} MiB together. {_RELIEF}",
            code="too_many_uploads",
        )


def refuse_build_beyond() -> None:
    """In the scope of its organisation. Raises `Conflict` where one more would be too many."""
    running = Build.objects.filter(job__state__in=_UNDER_WAY, finished_at__isnull=True).count()
    if running >= MOST_AT_ONCE:
        raise Conflict(
            f"{MOST_AT_ONCE} builds of this organisation are under way. Wait for one of them.",
            code="too_many_builds",
        )
    if Build.objects.count() >= MOST_BUILDS:
        raise Conflict(f"This organisation has {MOST_BUILDS} builds. {_RELIEF}", code="too_many_builds")
    if _built_bytes() >= BUILT_BYTES:
        raise Conflict(
            f"The built code of this organisation takes more than {BUILT_BYTES // MIB} MiB. {_RELIEF}",
            code="too_much_code",
        )


def _built_bytes() -> int:
    artifacts = Build.objects.exclude(artifact="").values("artifact").annotate(size=Max("artifact_size"))
    return artifacts.aggregate(bytes=Sum("size"))["bytes"] or 0


# ---- what has served its time ----------------------------------------------------------------------------


def forget(now: datetime, kept: timedelta, most: int = 500) -> int:
    """Remove builds that no version and no draft of a living server uses: those that are older than `kept`, surplus
    ones, and all of deleted servers; then uploads without a build, and logs of builds that are not among the newest.

    In the system's scope. Returns how many builds went. Safe to run at any moment, any number of times.
    """
    unused = [*_unused(now, kept, most), *_of_deleted_servers(most)]
    Build.objects.filter(id__in=unused).delete()
    Upload.objects.filter(builds__isnull=True, created_at__lt=now - SURPLUS_KEPT).delete()
    old = _ranked().filter(place__gt=NEWEST).exclude(log="").values_list("id", flat=True)[:most]
    Build.objects.filter(id__in=list(old)).update(log="", log_dropped=F("log_dropped") + Length("log"))
    return len(unused)


def _ended(builds: QuerySet[Any]) -> QuerySet[Any]:
    ended: QuerySet[Any] = builds.exclude(job__state__in=_UNDER_WAY)
    return ended


def _ranked() -> QuerySet[Any]:
    """With its `place` among the builds of its server, the newest first."""
    newest_first = (F("created_at").desc(), F("id").desc())
    place = Window(RowNumber(), partition_by=[F("server_id")], order_by=newest_first)
    ranked: QuerySet[Any] = Build.objects.annotate(place=place)
    return ranked


def _unused(now: datetime, kept: timedelta, most: int) -> list[uuid.UUID]:
    """Ids of builds of living servers whose artifact nothing names, or a newer build gave as well."""
    newer = Build.objects.filter(
        server_id=OuterRef("server_id"), artifact=OuterRef("artifact"), created_at__gt=OuterRef("created_at")
    )
    is_surplus = Q(place__gt=NEWEST, created_at__lt=now - SURPLUS_KEPT)
    old = _ended(_ranked().filter(server__deleted_at__isnull=True))
    old = old.filter(is_surplus | Q(created_at__lt=now - kept))
    old = old.annotate(has_newer=Exists(newer.exclude(artifact="")))
    rows = list(
        old.filter(Q(is_published=False) | Q(has_newer=True))
        .order_by("created_at")
        .values_list("id", "tenant_id", "artifact", "has_newer")[:most]
    )
    drafted = {tenant: _drafted(tenant) for tenant in {tenant for _, tenant, *_ in rows}}
    return [row for row, tenant, artifact, has_newer in rows if has_newer or artifact not in drafted[tenant]]


def _of_deleted_servers(most: int) -> list[uuid.UUID]:
    """Ids of builds of deleted servers that no other server has taken code from."""
    left = _ended(Build.objects.filter(server__deleted_at__isnull=False))
    rows = list(left.order_by("created_at").values_list("id", "tenant_id", "artifact")[:most])
    used = {tenant: _drafted(tenant) | _versioned(tenant) for tenant in {tenant for _, tenant, _ in rows}}
    return [row for row, tenant, artifact in rows if artifact not in used[tenant]]


def _drafted(tenant: uuid.UUID) -> set[str]:
    """Digests that drafts of an organisation name."""
    drafts = Server.objects.filter(tenant_id=tenant, deleted_at__isnull=True)
    return {
        digest
        for upstreams in drafts.values_list("upstreams", flat=True)
        for digest in named_code({"upstreams": upstreams})
    }


def _versioned(tenant: uuid.UUID) -> set[str]:
    """Digests that versions of living servers of an organisation name."""
    versions = Version.objects.filter(tenant_id=tenant, server__deleted_at__isnull=True)
    manifests = versions.values_list("manifest", flat=True).iterator(chunk_size=50)
    return {digest for manifest in manifests for digest in named_code(manifest)}
