"""OpenAPI documents on their way to becoming tools: handed in, read by a worker, chosen from, applied."""

from __future__ import annotations

import re
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from mooring import jobs
from mooring.audit.record import Actor, Target, record
from mooring.egress.guard import check_url
from mooring.errors import Conflict, InvalidInput, NotFound
from servers import manifests
from servers.models import Import, Server
from servers.services.drafts import Manifest, draft_manifest, replace_draft
from servers.services.hosting import create_server
from tenants.models import Tenant

if TYPE_CHECKING:
    from servers.importers.openapi import Imported

MAX_BYTES = 5 * 1024 * 1024
FETCH_SECONDS = 20.0
_NAMED = re.compile(r"\{([^{}:]+)\}")


def start_import(tenant: Tenant, *, actor: Actor, name: str, document: str | None, url: str | None) -> Import:
    """Keep the document, or the address to fetch it from, and wake a worker. Raises `InvalidInput`."""
    document, url = document or "", (url or "").strip()
    _check_source(document, url)
    shown = name.strip() if manifests.is_storable(name) else ""
    with transaction.atomic():
        started: Import = Import.objects.create(
            tenant=tenant, name=(shown or url or "document")[:200], source=url, document=document
        )
        started.job = jobs.enqueue("openapi.import", tenant_id=tenant.id, payload={"import": str(started.id)})
        started.save(update_fields=["job"])
        record(
            "import.started",
            tenant=tenant.id,
            actor=actor,
            target=Target("import", str(started.id), started.name),
            after={"source": url, "characters": len(document)},
        )
    return started


def _check_source(document: str, url: str) -> None:
    if bool(document.strip()) == bool(url):
        raise InvalidInput(
            "Give either a document or an address to fetch it from.",
            fields={"document": ["Paste a document, choose a file, or give an address."]},
        )
    if len(document) > MAX_BYTES:
        raise InvalidInput(
            f"The document is larger than {MAX_BYTES // 1024**2} MiB. Remove the parts you do not need.",
            code="document_too_large",
            fields={"document": ["It is too large."]},
        )
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


def run_import(import_id: uuid.UUID, *, fetched: bytes | str = "") -> None:
    """Read the document of an import, for a worker. Doing it again does nothing.

    Raises `InvalidInput` for what is no usable document.
    """
    from servers.importers import documents, openapi  # large, and only workers read documents

    row = Import.objects.filter(id=import_id).first()
    if row is None:
        raise NotFound("There is no such import.")
    if row.result:
        return
    imported = openapi.import_openapi(documents.parse(row.document or fetched), source_url=row.source or None)
    result = _result(imported)
    # The result says all that is needed from here on.
    Import.objects.filter(id=row.id, read_at__isnull=True).update(
        result=result, document="", read_at=timezone.now()
    )


def _result(imported: Imported) -> dict[str, Any]:
    """`{"manifest", "operations", "left_out"}` with only tools that can be saved."""
    refused: list[dict[str, str]] = []
    manifest = dict(imported.manifest)
    try:
        manifest = manifests.check(manifest)
    except InvalidInput:
        manifest, refused = _usable(manifest)
    names = {tool["name"] for tool in manifest.get("tools", [])}
    return {
        "manifest": manifest,
        "operations": [asdict(one) for one in imported.operations if one.name in names],
        "left_out": [*(asdict(one) for one in imported.left_out), *refused],
    }


def _usable(manifest: Manifest) -> tuple[Manifest, list[dict[str, str]]]:
    """The manifest without the tools that alone are refused, and what was wrong with those."""
    kept, refused = [], []
    for tool in manifest.get("tools", []):
        try:
            kept.append(
                manifests.check_part(
                    "tools",
                    tool,
                    variables=manifest.get("variables", {}),
                    secrets=manifest.get("secrets", {}),
                )
            )
        except InvalidInput as error:
            refused.append({"what": f"the tool {str(tool.get('name'))[:128]}", "why": error.message})
    return manifests.check(manifest | {"tools": kept}), refused


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

    With `server` instead its tools are replaced, while its texts, resources and prompts stay. Raises
    `Conflict` while the import has not been read and `InvalidInput` for unknown keys.
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
        else:
            manifest = _merged(draft_manifest(server), manifest, retitled=bool(title and title.strip()))
        replace_draft(server, manifest, actor=actor)
        imp.server = server
        imp.save(update_fields=["server"])
    return server


def _chosen(result: dict[str, Any], keys: list[str] | None) -> Manifest:
    """The import's manifest with only these operations, and what they still need."""
    manifest: Manifest = result["manifest"]
    if keys is None:
        return manifest
    by_key = {operation["key"]: operation["name"] for operation in result["operations"]}
    unknown = [key for key in keys if key not in by_key]
    if unknown or not keys:
        raise InvalidInput(
            f"The document has no operation {unknown[0][:200]!r}." if unknown else "Choose an operation.",
            fields={"chosen": ["Choose from the operations of the document."]},
        )
    names = {by_key[key] for key in keys}
    return _narrowed(manifest, [tool for tool in manifest["tools"] if tool["name"] in names])


def _narrowed(manifest: Manifest, tools: list[dict[str, Any]]) -> Manifest:
    """Ask for exactly the secrets and variables that these tools use."""
    secrets = {name for tool in tools for name in manifests.secrets_named(tool)}
    variables = {name for tool in tools for name in _braced(tool.get("http", {}))}
    return manifest | {
        "tools": tools,
        "secrets": {name: about for name, about in manifest.get("secrets", {}).items() if name in secrets},
        "variables": {
            name: about for name, about in manifest.get("variables", {}).items() if name in variables
        },
    }


def _braced(http: dict[str, Any]) -> set[str]:
    texts = [http.get("url", ""), *(constant["value"] for constant in http.get("constants", []))]
    texts += http.get("basic_auth", {}).values()
    return {name for text in texts for name in _NAMED.findall(text)}


def _merged(draft: Manifest, new: Manifest, *, retitled: bool) -> Manifest:
    about = draft["server"] | ({"title": new["server"]["title"]} if retitled else {})
    known = draft.get("variables", {})
    variables = {
        name: known[name] if name in known and not about_it.get("default") else about_it
        for name, about_it in new.get("variables", {}).items()
    }
    return draft | {
        "server": about,
        "tools": new.get("tools", []),
        "variables": variables,
        "secrets": new.get("secrets", {}),
    }
