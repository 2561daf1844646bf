"""What a worker does with an upload: what it has to build, what it hears meanwhile, and how that ends."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from mooring.audit.record import SYSTEM_ACTOR
from mooring.errors import InvalidInput, MooringError, NotFound
from servers import manifests
from servers.importers.code import offer_of
from servers.models import Build, Channel, Server
from servers.runner.engine import BuildEvent, BuildResult, BuildSpec
from servers.runtimes.code.configured import spec_of
from servers.runtimes.http.values import NotReady
from servers.services.artifacts import found_in_offer
from servers.services.builds import ANY_DIGEST, record_build
from servers.services.secrets import secrets_of

LOG_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True)
class Order:
    """`attempt` is to be said with whatever comes of it."""

    spec: BuildSpec
    upload: bytes
    attempt: int


def begin(
    build_id: uuid.UUID, *, again: bool = False, instead_of_deleted: uuid.UUID | None = None
) -> Order | None:
    """What to build, with the values of `live` in place; None when that is done. The log begins anew.

    `again` builds what is finished once more, for a runner that has lost it; where the build's own server is deleted,
    with the secrets and values of the one that has taken its code. Raises `NotFound` and `InvalidInput`.
    """
    build = Build.objects.select_related("server", "upload").filter(id=build_id).first()
    server = build and build.server
    if server is not None and server.deleted_at is not None:
        server = Server.objects.filter(id=instead_of_deleted, deleted_at__isnull=True).first()
    if build is None or server is None:
        raise NotFound("There is no such build any more.")
    if build.finished_at is not None and not again:
        return None
    if not again:
        Build.objects.filter(id=build.id).update(
            stage="", log="", log_dropped=0, error="", failure={}, attempt=F("attempt") + 1
        )
    return Order(_spec(build, server), bytes(build.upload.data), build.attempt + 1)


def _spec(build: Build, server: Server) -> BuildSpec:
    secrets = secrets_of(server)
    live = Channel.objects.filter(server=server, name="live").first()
    defaults = {name: str(about.get("default", "")) for name, about in server.variables.items()}
    if missing := [name for name in manifests.secrets_named(build.settings) if not secrets.get(name)]:
        raise InvalidInput(
            f"The code needs the secret {missing[0]}, which has no value yet. Set it, then build again.",
            code="secret_missing",
        )
    try:
        run = spec_of(
            build.settings | {"code": ANY_DIGEST},
            (defaults | (live.variables if live else {})).get,
            secrets.get,
            tenant=str(build.tenant_id),
            server=str(server.id),
        )
    except NotReady as problem:
        raise InvalidInput(problem.sentence, code=problem.failure) from None
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    return BuildSpec(
        name=build.upload.name,
        when=build.when,
        variables=run.variables,
        secrets=run.secrets,
        masked=run.masked,
        hosts=run.hosts,
        limits=run.limits,
    )


def hear(build_id: uuid.UUID, events: Sequence[BuildEvent], *, attempt: int) -> None:
    """Add to the log of a build; its beginning goes when it becomes too long."""
    mine = Build.objects.filter(id=build_id, attempt=attempt)
    build = mine.only("id", "log", "log_dropped").first()
    if build is None or not events:
        return
    new = "".join(f"{manifests.storable(event.line)}\n" for event in events if event.line)
    log = build.log + new
    dropped = max(0, len(log) - LOG_CHARACTERS)
    mine.update(stage=events[-1].stage[:20], log=log[dropped:], log_dropped=build.log_dropped + dropped)


def finish(build_id: uuid.UUID, result: BuildResult) -> None:
    """Keep what a build gave; the first to say so counts."""
    with transaction.atomic():
        build = Build.objects.select_related("server").get(id=build_id)
        fields = {
            "artifact": result.digest,
            "artifact_size": result.size,
            "python": result.python[:20],
            "packages": list(result.packages),
            "offer": offer_of(result),
            "stage": "done",
            "finished_at": timezone.now(),
        }
        if Build.objects.filter(id=build_id, finished_at__isnull=True).update(**fields):
            packages = len(result.packages)
            record_build(build, "build.finished", SYSTEM_ACTOR, artifact=result.digest, packages=packages)


def replaced_by(build_id: uuid.UUID, result: BuildResult) -> str:
    """The artifact that what was built once more has to stand in for; empty where it is the same.

    It may be another one only where the runner has another Python now, and only if it offers the same. Raises
    `InvalidInput`, and `NotFound` when the build has been forgotten meanwhile.
    """
    build = _kept(build_id)
    if build.artifact == result.digest:
        return ""
    if build.python == result.python or not _offers_the_same(build, result):
        raise InvalidInput(
            f"Building {build.upstream} again gave {result.digest[:12]} instead of {build.artifact[:12]}, which "
            f"was for Python {build.python}. Upload it anew.",
            code="other_artifact",
        )
    return str(build.artifact)


def note_replaced(build_id: uuid.UUID, result: BuildResult) -> None:
    """Once the runner lets it stand in. Raises `NotFound`."""
    with transaction.atomic():
        build = _kept(build_id)
        record_build(build, "build.replaced", SYSTEM_ACTOR, artifact=build.artifact, by=result.digest)


def _kept(build_id: uuid.UUID) -> Build:
    build: Build | None = Build.objects.select_related("server").filter(id=build_id).first()
    if build is None:
        raise NotFound("There is no such build any more.")
    return build


def _offers_the_same(build: Build, result: BuildResult) -> bool:
    before, now = found_in_offer(build.offer), found_in_offer(offer_of(result))
    return {(key, one.digest) for key, one in before.items()} == {
        (key, one.digest) for key, one in now.items()
    }


def fail(build_id: uuid.UUID, error: MooringError, *, is_final: bool) -> None:
    """Keep why a build failed. One that is not final is tried again."""
    kept = {name: error.data[name] for name in ("stage", "file", "line", "block") if name in error.data}
    fields: dict[str, Any] = {"error": _sentence(error)[:4_000], "failure": kept | {"code": error.reason}}
    with transaction.atomic():
        build = Build.objects.select_related("server").filter(id=build_id, finished_at__isnull=True).first()
        if build is None:
            return
        Build.objects.filter(id=build_id).update(
            **fields, **({"finished_at": timezone.now()} if is_final else {})
        )
        if is_final:
            record_build(build, "build.failed", SYSTEM_ACTOR, code=error.reason)


def _sentence(error: MooringError) -> str:
    """Without the block to paste, which is kept beside it: what it says of that is not cut off at a colon then."""
    block = str(error.data.get("block", "")).rstrip("\n")
    if not block or block not in error.message:
        return error.message
    return f"{error.message.replace(block, '').strip().removesuffix(':')}."
