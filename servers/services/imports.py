"""Documents on their way into a draft: handed in, read by a worker, chosen from, applied."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from django.db import transaction
from django.utils import timezone

from mooring import jobs
from mooring.audit.record import Actor, Target, record
from mooring.egress.guard import check_url
from mooring.errors import ClientError, Conflict, InvalidInput, NotFound
from servers import manifests
from servers.models import Import, Server
from servers.services.drafts import Manifest, draft_manifest, replace_draft
from servers.services.hosting import create_server
from servers.services.keeping import refuse_import_beyond
from tenants.models import Tenant

MAX_BYTES = manifests.MAX_BYTES  # of what is fetched; what it may have depends on what it turns out to be
FETCH_SECONDS = 20.0


def start_import(
    tenant: Tenant,
    *,
    actor: Actor,
    name: str,
    document: str | None,
    url: str | None,
    server: Server | None = None,
) -> Import:
    """Keep the document, or the address to fetch it from, and wake a worker. Raises `InvalidInput`, and `Conflict`
    where the organisation has too many.

    `server` is the one it is meant for, if that is settled.
    """
    document, url = document or "", (url or "").strip()
    _check_source(document, url)
    with transaction.atomic():
        started = _kept(
            tenant,
            actor,
            name,
            len(document),
            source=url,
            document=document,
            size=len(document.encode()),
            server=server,
        )
        started.job = jobs.enqueue("openapi.import", tenant_id=tenant.id, payload={"import": str(started.id)})
        started.save(update_fields=["job"])
    return started


def import_now(
    server: Server, *, actor: Actor, name: str, document: str
) -> tuple[Import, ClientError | None]:
    """Read a JSON document and put what it gives into the server's draft at once.

    What is refused changes nothing but the list of imports: the refusal is kept there, and returned instead of
    raised, so that it outlives the request's transaction. Raises `InvalidInput` for what is no text, and `Conflict`
    where the organisation has too many imports.
    """
    from servers.importers import documents, results  # likewise

    _check_source(document, "")
    result: dict[str, Any] = {}
    refusal: ClientError | None = None
    try:
        result = results.result_of(documents.parse_json(document))
    except ClientError as error:
        refusal = error
    with transaction.atomic():
        kept = _kept(
            server.tenant,
            actor,
            name,
            len(document),
            server=server,
            result=result,
            size=_size(result),
            read_at=timezone.now(),
        )
        if refusal is None:
            refusal = _refused(lambda: apply_import(kept, actor=actor, server=server))
        if refusal is not None:
            kept.error = refusal.message[:500]
            kept.save(update_fields=["error"])
    return kept, refusal


def _refused(write: Callable[[], object]) -> ClientError | None:
    try:
        with transaction.atomic():
            write()
    except ClientError as error:
        return error
    return None


def _kept(tenant: Tenant, actor: Actor, name: str, characters: int, **fields: Any) -> Import:
    """The row, and the audit event that names it. Raises `Conflict` where the organisation has too many."""
    refuse_import_beyond(fields["size"])
    source = fields.get("source", "")
    shown = name.strip() if manifests.is_storable(name) else ""
    made: Import = Import.objects.create(tenant=tenant, name=(shown or source or "document")[:200], **fields)
    record(
        "import.started",
        tenant=tenant.id,
        actor=actor,
        target=Target("import", str(made.id), made.name),
        after={"source": source, "characters": characters},
    )
    return made


def _check_source(document: str, url: str) -> None:
    from servers.importers.documents import check_size  # likewise

    if bool(document.strip()) == bool(url):
        raise InvalidInput(
            "Give either a document or an address to fetch it from.",
            fields={"document": ["Paste a document, choose a file, or give an address."]},
        )
    check_size(document)
    if not manifests.is_storable(document):
        raise InvalidInput(
            "The document is not readable text. Save it as UTF-8 and try again.",
            code="not_text",
            fields={"document": ["Save it as UTF-8."]},
        )
    if url:
        if len(url) > 2_000 or not manifests.is_storable(url):
            raise InvalidInput(
                "The address cannot be used.", fields={"url": ["Use at most 2,000 characters."]}
            )
        check_url(url)


def source_of(import_id: uuid.UUID) -> str:
    """The URL an import is still to be fetched from, or "". Fetching is done outside any transaction."""
    row = Import.objects.filter(id=import_id, document="", read_at__isnull=True).first()
    return row.source if row is not None else ""


def run_import(
    import_id: uuid.UUID, *, fetched: bytes | str = "", progress: Callable[[int, int], None] | None = None
) -> None:
    """Read the document of an import, for a worker. Doing it again does nothing.

    `progress` is called with the operations read and all there are. Raises `InvalidInput` for what is no usable
    document, and `Conflict` where the organisation has too many.
    """
    from servers.importers import documents, results  # large, and only who reads documents needs it

    row = Import.objects.filter(id=import_id).first()
    if row is None:
        raise NotFound("There is no such import.")
    if row.result:
        return
    document = documents.parse(row.document or fetched)
    result = results.result_of(document, source_url=row.source or None, progress=progress)
    size = _size(result)
    refuse_import_beyond(size, but=row.id)
    # The result says all that is needed from here on.
    Import.objects.filter(id=row.id, read_at__isnull=True).update(
        result=result, document="", size=size, read_at=timezone.now()
    )


def _size(result: dict[str, Any]) -> int:
    return len(msgspec.json.encode(result))


def apply_import(
    imp: Import,
    *,
    actor: Actor,
    slug: str | None = None,
    server: Server | None = None,
    title: str | None = None,
    chosen: list[str] | None = None,
) -> Server:
    """Make a server `slug` of the chosen operations (keys such as "GET /pets"; all when None).

    With `server` instead its tools are replaced, while its texts, resources and prompts stay; a manifest
    replaces the whole draft. Raises `Conflict` while the import has not been read and `InvalidInput` for
    unknown keys.
    """
    if not imp.result:
        raise Conflict("This import has not been read yet. Wait for it first.", code="import_unfinished")
    manifest = _chosen(imp.result, chosen)
    if title and title.strip():
        manifest = manifest | {"server": manifest["server"] | {"title": title.strip()}}
    with transaction.atomic():
        if server is None:
            if not slug:
                raise InvalidInput("Give the server a name.", fields={"slug": ["Give the server a name."]})
            server = create_server(imp.tenant, slug=slug, title=manifest["server"]["title"], actor=actor)
        elif not imp.is_manifest:
            manifest = manifests.with_tools_of(manifest, draft_manifest(server), title=(title or "").strip())
        replace_draft(server, manifest, actor=actor)
        imp.server, imp.applied_at = server, timezone.now()
        imp.save(update_fields=["server", "applied_at"])
    return server


def _chosen(result: dict[str, Any], keys: list[str] | None) -> Manifest:
    """The import's manifest with only these operations, and what they still need."""
    from servers.importers.openapi import Imported  # likewise

    return result["manifest"] if keys is None else Imported.from_result(result).chosen(keys)
