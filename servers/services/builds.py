"""Uploaded code: handed in, and kept with its builds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from mooring import jobs
from mooring.audit.record import Actor, Target, record
from mooring.errors import Conflict, InvalidInput, NotFound, TooLarge
from mooring.jobs.models import BUILDS
from servers import manifests
from servers.models import Build, Server, Upload
from servers.runner.engine import MIB
from servers.services.drafts import settings_manifest
from servers.services.keeping import refuse_build_beyond, refuse_upload_beyond
from servers.services.recording import count_draft_change, locked
from servers.services.upstreams import check_name, needed_secrets

Json = dict[str, Any]
BUILD = "code.build"
MAX_BYTES = 20 * MIB
SUFFIXES = (".py", ".zip", ".tar.gz", ".tgz")
SETTINGS = ("hosts", "environment", "memory_mb")
# Stands for the artifact while there is none.
ANY_DIGEST = "0" * 64


def start_build(
    server: Server,
    *,
    actor: Actor,
    name: str,
    data: bytes,
    upstream: str = "main",
    settings: Mapping[str, Any] | None = None,
) -> Build:
    """Keep an upload (`name` is what its file was called) and wake a worker that builds it.

    `settings` (hosts, environment, memory_mb) are what the upstream is to be run with; those it has in the draft
    unless given. Secrets the environment names are added to those the server needs. Raises `InvalidInput`,
    `TooLarge` and `Conflict`.
    """
    _check_upload(name, data)
    check_name(upstream)
    with transaction.atomic():
        held = locked(server)
        before = held.upstreams.get(upstream, {})
        if "url" in before:
            raise Conflict(
                f"The upstream {upstream} is a server elsewhere. Give the code another name.", code="not_code"
            )
        if upstream not in held.upstreams and len(held.upstreams) >= manifests.MOST_UPSTREAMS:
            raise Conflict(
                f"A server has at most {manifests.MOST_UPSTREAMS} upstreams.", code="too_many_upstreams"
            )
        chosen = {part: before[part] for part in SETTINGS if part in before} | dict(settings or {})
        checked = _checked_settings(held, chosen, seen=server)
        upload = _kept(held, name, data)
        return _started(held, upload, upstream, checked, timezone.now(), actor)


def try_again(build: Build, *, actor: Actor) -> Build:
    """Build the same upload once more, with the same versions of packages. Raises `Conflict` and `NotFound`."""
    with transaction.atomic():
        held = locked(build.server)
        upload = Upload.objects.defer("data").filter(id=build.upload_id).first()
        if upload is None:
            raise NotFound("There is no such build any more. Upload the code again.")
        return _started(held, upload, build.upstream, build.settings, build.when, actor)


def _check_upload(name: str, data: bytes) -> None:
    problem = ""
    if not name.lower().endswith(SUFFIXES) or len(name) > 200 or not manifests.is_storable(name):
        problem = f"Upload one Python file or an archive: {', '.join(SUFFIXES)}."
    elif not data:
        problem = "The file is empty."
    if problem:
        raise InvalidInput(problem, fields={"file": [problem]})
    if len(data) > MAX_BYTES:
        raise TooLarge(
            f"An upload may have {MAX_BYTES // MIB} MiB. Leave out what the server does not need to run.",
            code="upload_too_large",
        )


def _checked_settings(held: Server, settings: Mapping[str, Any], *, seen: Server) -> Json:
    """Hosts, environment and memory as in the manifest; the draft is told of secrets that are new."""
    if strange := sorted(set(settings) - set(SETTINGS)):
        raise InvalidInput(
            f"Code has no setting {strange[0][:80]!r}.", fields={strange[0][:80]: ["Unknown."]}
        )
    secrets = needed_secrets(held, settings)
    within = settings_manifest(held) | {"secrets": secrets}
    checked = manifests.check_upstream({**settings, "code": ANY_DIGEST}, within=within)
    if secrets != held.secrets_needed:
        held.secrets_needed = secrets
        count_draft_change(held, seen=seen, also=("secrets_needed",))
    return {name: part for name, part in checked.items() if name != "code"}


def _kept(server: Server, name: str, data: bytes) -> Upload:
    digest = hashlib.sha256(data).hexdigest()
    same: Upload | None = Upload.objects.filter(server=server, digest=digest, name=name).defer("data").first()
    if same is not None:
        return same
    refuse_upload_beyond(len(data))
    made: Upload = Upload.objects.create(
        tenant_id=server.tenant_id, server=server, name=name, digest=digest, size=len(data), data=data
    )
    return made


def _started(
    server: Server, upload: Upload, upstream: str, settings: Json, when: datetime, actor: Actor
) -> Build:
    refuse_build_beyond()
    build: Build = Build.objects.create(
        tenant_id=server.tenant_id,
        server=server,
        upload=upload,
        upstream=upstream,
        settings=settings,
        when=when,
        author=actor.name[:254],
    )
    enqueue_build(build)
    record_build(build, "build.started", actor, upstream=upstream, file=upload.name, sha256=upload.digest)
    return build


def enqueue_build(build: Build, *, again_for: Server | None = None) -> None:
    """For services, in their transaction. With `again_for`, which runs its code, what is finished is made once more."""
    payload: Json = {"build": str(build.id)} | ({"again": True} if again_for is not None else {})
    if again_for is not None and build.server.deleted_at is not None:
        payload["server"] = str(again_for.id)
    build.job = jobs.enqueue(BUILD, tenant_id=build.tenant_id, payload=payload, queue=BUILDS)
    build.save(update_fields=["job"])


def record_build(build: Build, action: str, actor: Actor, **after: Any) -> None:
    target = Target("build", str(build.id), f"{build.server.slug}/{build.upstream}")
    record(action, tenant=build.tenant_id, actor=actor, target=target, after=after)
