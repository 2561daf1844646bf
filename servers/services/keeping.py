"""How much uploaded code an organisation may have here, and what of it goes by itself."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import structlog
from django.db import IntegrityError, router, transaction
from django.db.models import Count, Exists, F, Max, OuterRef, Q, QuerySet, Sum, Window
from django.db.models.functions import Length, RowNumber

from mooring.errors import Conflict
from servers.models import Build, Channel, Import, Server, Upload, Version
from servers.runner.engine import MIB
from servers.services.artifacts import named_code

# Of one organisation: its uploads, and what they were built into, each artifact as if it shared nothing.
UPLOADED_BYTES, BUILT_BYTES = 1024 * MIB, 4096 * MIB
MOST_BUILDS, MOST_AT_ONCE = 1_000, 5
# Imports of one organisation; a deployment a quarter of an hour for a month is below it.
IMPORTED_BYTES, MOST_IMPORTS = 256 * MIB, 3_000
# Of one server: the newest versions keep their code; the newest builds keep their logs, and of those that nothing uses
# only they are kept beyond a day. They are fewer where the organisation has used half of what it may have.
NEWEST, NEWEST_WHEN_FULL, SURPLUS_KEPT = 20, 5, timedelta(days=1)
_UNDER_WAY = ("waiting", "running")
_RELIEF = (
    "Kept is the code of drafts, of channels, of versions that members pin and of the newest "
    f"{NEWEST_WHEN_FULL} versions and builds of each server; the rest goes within two days. For more room delete "
    "servers that nobody needs."
)
_IN_A_MONTH = "They go by themselves after 30 days."
_log = structlog.get_logger(__name__)


# ---- what is refused -------------------------------------------------------------------------------------


def refuse_upload_beyond(size: int) -> None:
    """In the scope of its organisation. Raises `Conflict`."""
    if _uploaded_bytes(Upload.objects.all()) + size > UPLOADED_BYTES:
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
    if _built_bytes(Build.objects.all()) >= BUILT_BYTES:
        raise Conflict(
            f"The built code of this organisation takes more than {BUILT_BYTES // MIB} MiB. {_RELIEF}",
            code="too_much_code",
        )


def refuse_import_beyond(size: int, *, but: uuid.UUID | None = None) -> None:
    """In the scope of its organisation, whose import `but` does not count. Raises `Conflict`."""
    kept = Import.objects.exclude(id=but).aggregate(number=Count("id"), bytes=Sum("size"))
    if kept["number"] >= MOST_IMPORTS:
        raise Conflict(
            f"This organisation has {MOST_IMPORTS:,} imports. {_IN_A_MONTH}", code="too_many_imports"
        )
    if (kept["bytes"] or 0) + size > IMPORTED_BYTES:
        raise Conflict(
            f"The imports of this organisation would take more than {IMPORTED_BYTES // MIB} MiB together. "
            f"{_IN_A_MONTH}",
            code="too_many_imports",
        )


def _uploaded_bytes(uploads: QuerySet[Any]) -> int:
    return uploads.aggregate(bytes=Sum("size"))["bytes"] or 0


def _built_bytes(builds: QuerySet[Any]) -> int:
    artifacts = builds.exclude(artifact="").values("artifact").annotate(size=Max("artifact_size"))
    return artifacts.aggregate(bytes=Sum("size"))["bytes"] or 0


def _newest_of(tenant: uuid.UUID) -> int:
    """How many of each server are kept because they are new."""
    builds, uploads = Build.objects.filter(tenant_id=tenant), Upload.objects.filter(tenant_id=tenant)
    has_room = (
        builds.count() < MOST_BUILDS // 2
        and _built_bytes(builds) < BUILT_BYTES // 2
        and _uploaded_bytes(uploads) < UPLOADED_BYTES // 2
    )
    return NEWEST if has_room else NEWEST_WHEN_FULL


# ---- what has served its time ----------------------------------------------------------------------------


def forget(now: datetime, kept: timedelta, most: int = 500) -> int:
    """Remove builds whose code nothing uses (see `_used`): those that are older than `kept`, surplus ones, and all of
    deleted servers; then uploads without a build, and logs of builds that are not among the newest.

    In the system's scope, outside a transaction. Goes on until `most` builds or more went; returns how many. Safe to
    run at any moment, any number of times.
    """
    gone = 0
    for tenant in _tenants_with_old(now):
        gone += _forget_of(tenant, now, kept)
        if gone >= most:
            break
    old = _ranked(Build.objects.all()).filter(place__gt=NEWEST).exclude(log="")
    ids = list(old.values_list("id", flat=True)[:most])
    Build.objects.filter(id__in=ids).update(log="", log_dropped=F("log_dropped") + Length("log"))
    return gone


def _tenants_with_old(now: datetime) -> list[uuid.UUID]:
    old = Q(created_at__lt=now - SURPLUS_KEPT)
    of_deleted = Q(server__deleted_at__isnull=False)
    builds = Build.objects.filter(old | of_deleted).values_list("tenant_id", flat=True)
    uploads = Upload.objects.filter(old, builds__isnull=True).values_list("tenant_id", flat=True)
    return sorted(set(chain(builds.distinct(), uploads.distinct())))


def _forget_of(tenant: uuid.UUID, now: datetime, kept: timedelta) -> int:
    """How many builds of an organisation went, and its abandoned uploads with them.

    All its servers are held meanwhile, since each may take the code of any other.
    """
    if not _unused(tenant, now, kept) and not _abandoned(tenant, now).exists():
        return 0
    try:
        with transaction.atomic(using=router.db_for_write(Build)):
            living = Server.objects.filter(tenant_id=tenant, deleted_at__isnull=True)
            list(living.select_for_update(no_key=True).order_by("id").values_list("id"))
            unused = _unused(tenant, now, kept)
            Build.objects.filter(id__in=unused).only("id").delete()
            # Their bytes stay where they are: an upload may have 20 MiB.
            _abandoned(tenant, now).only("id").delete()
    except IntegrityError as error:
        _log.warning("code_not_forgotten", tenant=str(tenant), reason=type(error).__name__)
        return 0
    return len(unused)


def _abandoned(tenant: uuid.UUID, now: datetime) -> QuerySet[Any]:
    uploads: QuerySet[Any] = Upload.objects.filter(tenant_id=tenant, builds__isnull=True)
    return uploads.filter(created_at__lt=now - SURPLUS_KEPT)


def _ranked(rows: QuerySet[Any], by: str = "created_at") -> QuerySet[Any]:
    """With their `place` among those of their server, the newest first."""
    newest_first = (F(by).desc(), F("id").desc())
    place = Window(RowNumber(), partition_by=[F("server_id")], order_by=newest_first)
    ranked: QuerySet[Any] = rows.annotate(place=place)
    return ranked


def _unused(tenant: uuid.UUID, now: datetime, kept: timedelta) -> list[uuid.UUID]:
    """Ids of builds that are old enough, and whose artifact nothing uses or a newer build gave as well."""
    newer = Build.objects.filter(
        server_id=OuterRef("server_id"), artifact=OuterRef("artifact"), created_at__gt=OuterRef("created_at")
    )
    newest = _newest_of(tenant)
    is_surplus = Q(place__gt=newest, created_at__lt=now - SURPLUS_KEPT)
    old = _ranked(Build.objects.filter(tenant_id=tenant)).exclude(job__state__in=_UNDER_WAY)
    old = old.filter(is_surplus | Q(created_at__lt=now - kept) | Q(server__deleted_at__isnull=False))
    rows = list(
        old.annotate(has_newer=Exists(newer.exclude(artifact=""))).values_list("id", "artifact", "has_newer")
    )
    used = _used(tenant, newest) if rows else set()
    return [row for row, artifact, has_newer in rows if has_newer or artifact not in used]


def _used(tenant: uuid.UUID, newest: int) -> set[str]:
    """Digests that drafts of an organisation name, its channels, the newest versions of each server, and versions that
    any of these have as members.
    """
    versions = Version.objects.filter(tenant_id=tenant, server__deleted_at__isnull=True)
    served = versions.filter(id__in=Channel.objects.filter(tenant_id=tenant).values("version_id"))
    recent = _ranked(versions, by="ordinal").filter(place__lte=newest)
    used, slugs, numbers = set[str](), set[str](), set[str]()
    for manifest in chain(_drafts(tenant), _manifests(recent), _manifests(served)):
        used |= named_code(manifest)
        members = manifest.get("members", [])
        slugs |= {one["server"] for one in members}
        numbers |= {one.get("channel", "") for one in members}
    pinned = versions.filter(server__slug__in=slugs, number__in=numbers)
    return used.union(*(named_code(manifest) for manifest in _manifests(pinned)))


def _drafts(tenant: uuid.UUID) -> Iterator[dict[str, Any]]:
    drafts = Server.objects.filter(tenant_id=tenant, deleted_at__isnull=True)
    yield from drafts.values("upstreams", "members").iterator(chunk_size=50)


def _manifests(versions: QuerySet[Any]) -> Iterator[dict[str, Any]]:
    yield from versions.values_list("manifest", flat=True).iterator(chunk_size=50)
