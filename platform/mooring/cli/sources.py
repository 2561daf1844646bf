"""What `mooring deploy` is given: a manifest, or an OpenAPI document to make one of."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """`left_out` holds `{"what", "why"}` of the parts of an OpenAPI document that gave nothing."""

    manifest: dict[str, Any]
    operations: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    is_openapi: bool = False


def read(path: str) -> Source:
    """Read a file, or standard input for `-`. Raises `InvalidInput` and `OSError`."""
    from servers.importers import documents, results  # reading documents is not for every command

    raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    found = results.result_of(documents.parse(raw))
    is_openapi = found["kind"] == results.OPENAPI
    return Source(found["manifest"], found["operations"], found["left_out"], is_openapi)
