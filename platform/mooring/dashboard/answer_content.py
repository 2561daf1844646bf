"""The content of a tool's answer, block by block, as the playground draws it. Nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Drawn by the browser without running anything; other images and sounds are offered as files.
_DRAWN = {
    *("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"),
    *(
        "audio/mpeg",
        "audio/wav",
        "audio/x-wav",
        "audio/ogg",
        "audio/webm",
        "audio/mp4",
        "audio/aac",
        "audio/flac",
    ),
}
MOST_BYTES = 2 * 1024 * 1024  # of one block in the page; larger ones are in the whole answer alone


@dataclass(frozen=True, slots=True)
class Block:
    """`kind` is text, image, audio, resource or resource_link. `source` and `file` are `data:` addresses or ""."""

    kind: str
    text: str = ""
    uri: str = ""
    mime_type: str = ""
    size: int = 0
    source: str = ""
    file: str = ""


def blocks_of(content: object) -> list[Block]:
    given = content if isinstance(content, list) else []
    return [_block(one) for one in given if isinstance(one, Mapping)]


def _block(given: Mapping[str, Any]) -> Block:
    kind = str(given.get("type", ""))
    if kind == "text":
        return Block(kind, text=str(given.get("text", "")))
    held = given.get("resource") if kind == "resource" else given
    part = held if isinstance(held, Mapping) else {}
    uri, text, mime_type = (str(part.get(name, "")) for name in ("uri", "text", "mimeType"))
    data = part.get("blob" if kind == "resource" else "data")
    size, source, file = _addresses(data, mime_type)
    return Block(kind, text, uri, mime_type, size, source, file)


def _addresses(data: object, mime_type: str) -> tuple[int, str, str]:
    """Bytes, where to draw them from, where to download them from."""
    try:
        raw = base64.b64decode(data, validate=True) if isinstance(data, str) else b""
    except binascii.Error:
        raw = b""
    if not raw or len(raw) > MOST_BYTES:
        return len(raw), "", ""
    kind = mime_type.partition(";")[0].strip().lower()
    source = f"data:{kind};base64,{data}" if kind in _DRAWN else ""
    return len(raw), source, f"data:application/octet-stream;base64,{data}"
