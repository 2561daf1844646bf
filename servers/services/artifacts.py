"""What finished builds gave: the artifacts that a draft may name, and what each of them offers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import QuerySet

from mooring.errors import Conflict, InvalidInput
from servers.importers.remote import KINDS, Found
from servers.models import Build, Server, UpstreamDefinition, Version
from servers.runtimes.remote.definitions import digest_of

Json = dict[str, Any]


def refuse_strange_code(server: Server, upstreams: Mapping[str, Json]) -> None:
    """Only what this organisation has built may run in its name: a digest alone is no proof that it is theirs.

    Raises `InvalidInput`.
    """
    named = {name: one["code"] for name, one in upstreams.items() if "code" in one}
    known = set(_built(server, named.values()).values_list("artifact", flat=True)) if named else set()
    if strange := [name for name, digest in named.items() if digest not in known]:
        raise InvalidInput(
            f"No build of this organisation has given the code of the upstream {strange[0]!r}. Upload it here first.",
            code="strange_code",
            fields={
                f"upstreams.{name}.code": ["No build of this organisation has given it."] for name in strange
            },
        )


def refuse_forgotten_code(version: Version) -> None:
    """Code of old versions is not kept for good (`keeping` says which is). Raises `Conflict`."""
    named = named_code(version.manifest)
    known = set(_built(version.server, named).values_list("artifact", flat=True)) if named else set()
    if named - known:
        raise Conflict(
            f"The code of version {version.number} is not kept any more. Upload it again and publish a new version.",
            code="code_forgotten",
        )


def build_of(server: Server, digest: str) -> Build | None:
    """The newest build that gave this artifact: of the server itself, else of another of the organisation, and of a
    deleted one only where nothing else has it.
    """
    builds = _built(server, [digest]).select_related("job", "upload", "server").defer("upload__data")
    ordered = builds.order_by("created_at", "id")
    living = ordered.filter(server__deleted_at__isnull=True)
    found: Build | None = ordered.filter(server=server).last() or living.last() or ordered.last()
    return found


def _built(server: Server, digests: Iterable[str]) -> QuerySet[Build]:
    found: QuerySet[Build] = Build.objects.filter(tenant_id=server.tenant_id, artifact__in=list(digests))
    return found


def found_in(build: Build) -> dict[tuple[str, str], Found]:
    """What a build's code listed when it was tried, by section and name there."""
    return found_in_offer(build.offer)


def found_in_offer(offer: Json) -> dict[tuple[str, str], Found]:
    """What an offer lists, by section and name there."""
    return {
        (section, definition[key]): Found(section, definition[key], digest_of(definition), definition)
        for _, section, key in KINDS
        for definition in offer.get(section, [])
    }


def remember_offers(server: Server, declared: Mapping[str, Json]) -> None:
    """Definitions of the artifacts that these upstreams (by source) run, where they are not kept yet.

    They never change, so nobody looks at them again.
    """
    code = {source: one["code"] for source, one in declared.items() if "code" in one}
    known = UpstreamDefinition.objects.filter(server=server, source__in=code).values_list("source", flat=True)
    for source in code.keys() - set(known):
        build = build_of(server, code[source])
        UpstreamDefinition.objects.bulk_create(
            UpstreamDefinition(
                tenant_id=server.tenant_id,
                server=server,
                source=source,
                section=found.section,
                name=found.name,
                digest=found.digest,
                definition=found.definition,
            )
            for found in (found_in(build).values() if build is not None else ())
            if len(found.name) <= 1_000
        )


def named_code(manifest: Json) -> set[str]:
    """Digests of the artifacts that a manifest runs."""
    return {one["code"] for one in manifest.get("upstreams", {}).values() if "code" in one}
