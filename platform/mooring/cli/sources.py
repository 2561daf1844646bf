"""What `mooring deploy` is given: a manifest, or an OpenAPI document to make one of."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mooring.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Source:
    """`left_out` holds `{"what", "why"}` of the parts of an OpenAPI document that gave nothing."""

    manifest: dict[str, Any]
    operations: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    is_openapi: bool = False


def read(path: str) -> Source:
    """Read a file, or standard input for `-`. Raises `InvalidInput` and `OSError`."""
    from servers.importers import documents  # reading YAML is not for every command

    raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    document = documents.parse(raw)
    if "mooring" in document:
        return Source(_checked(document))
    return imported(document)


def imported(document: dict[str, Any]) -> Source:
    """What an OpenAPI document gives. Raises `InvalidInput` for anything else."""
    from servers.importers.openapi import import_openapi  # likewise

    if "openapi" not in document and "swagger" not in document:
        raise InvalidInput(
            "This is neither a manifest (`mooring: 1`) nor an OpenAPI document (`openapi: 3.…`).",
            code="unknown_document",
        )
    found = import_openapi(document).as_result()
    manifest, refused = _usable(found["manifest"])
    names = {tool["name"] for tool in manifest.get("tools", [])}
    return Source(
        manifest,
        [operation for operation in found["operations"] if operation["name"] in names],
        [*found["left_out"], *refused],
        is_openapi=True,
    )


def _usable(manifest: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Without the tools that could not be saved; one that is too large must not cost all the others."""
    from servers import manifests  # likewise

    kept, refused = [], []
    about = {part: manifest.get(part, {}) for part in ("variables", "secrets")}
    for tool in manifest.get("tools", []):
        try:
            kept.append(manifests.check_part("tools", tool, **about))
        except InvalidInput as error:
            refused.append({"what": f"the tool {tool.get('name')}", "why": error.message})
    return manifests.check(manifest | {"tools": kept}), refused


def _checked(document: dict[str, Any]) -> dict[str, Any]:
    from servers import manifests  # likewise

    return manifests.check(document)
