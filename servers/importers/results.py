"""What a document gives: a manifest as it is, or an OpenAPI document made into one. Pure."""

from __future__ import annotations

from typing import Any

from mooring.errors import InvalidInput
from servers import manifests
from servers.importers.openapi import Progress, import_openapi

MANIFEST, OPENAPI = "manifest", "openapi"


def result_of(
    document: dict[str, Any], *, source_url: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """`{"kind", "manifest", "operations", "left_out"}` as plain JSON, for keeping. Every tool can be saved.

    Of OpenAPI it also holds what `Imported.from_result` reads; `progress` is as for `import_openapi`.
    Raises `InvalidInput`.
    """
    if "mooring" in document:
        return {"kind": MANIFEST, "manifest": manifests.check(document), "operations": [], "left_out": []}
    if "openapi" not in document and "swagger" not in document:
        raise InvalidInput(
            "This is neither a manifest (`mooring: 1`) nor an OpenAPI document (`openapi: 3.…`).",
            code="unknown_document",
        )
    imported = import_openapi(document, source_url=source_url, progress=progress)
    return {"kind": OPENAPI} | imported.usable().as_result()
