"""What an operation answers → how the answer is read, and its schema when that helps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from servers.importers.openapi.compiling import usable
from servers.importers.openapi.conversion import Conversion
from servers.importers.openapi.findings import Findings, LeaveOut
from servers.importers.openapi.objects import is_object, shape_of
from servers.importers.openapi.reading import mapping, named
from servers.importers.openapi.references import References
from servers.importers.openapi.schemas import Schemas

_BINARY_KINDS = ("image/", "audio/", "video/", "font/")
_BINARY_TYPES = ("application/octet-stream", "application/pdf", "application/zip", "application/gzip")
_SCHEMA = "schema of the answer"


@dataclass(frozen=True)
class Answer:
    """`read_as` is json, text, binary, or "" when the answer's own content type is to decide."""

    read_as: str = ""
    schema: dict[str, Any] | None = None


def answer_of(
    operation: dict[str, Any],
    outputs: Schemas,
    references: References,
    findings: Findings,
    name: str,
    *,
    limit: int,
) -> Answer:
    """Never raises: a tool works without knowing what it will be answered."""
    try:
        successes = [mapping(references.follow(node)) for node in _successes(operation)]
        media = [_media(success, references) for success in successes]
        read_as = _read_as(media[0]) if media else ""
        if read_as != "json":
            return Answer(read_as)
    except LeaveOut as error:
        findings.count(_SCHEMA, str(error), name)
        return Answer()
    return Answer("json", _schema(media, outputs, references, findings, name, limit))


def _successes(operation: dict[str, Any]) -> list[Any]:
    """2xx, lowest first; the range `2XX` last."""
    found = [
        (code.upper(), node)
        for code, node in named(operation.get("responses"))
        if len(code) == 3 and code[0] == "2" and code[1:].upper().replace("X", "0").isdigit()
    ]
    return [node for _, node in sorted(found, key=lambda pair: pair[0])]


def _media(response: dict[str, Any], references: References) -> dict[str, dict[str, Any]]:
    return {name.lower(): mapping(references.follow(media)) for name, media in named(response.get("content"))}


def _read_as(media: dict[str, dict[str, Any]]) -> str:
    if any(_is_json(name) for name in media):
        return "json"
    kinds = {_kind(name, node) for name, node in media.items()}
    return kinds.pop() if len(kinds) == 1 else ""


def _is_json(media_type: str) -> bool:
    essence = media_type.partition(";")[0].strip()
    return essence == "application/json" or essence.endswith("+json")


def _kind(media_type: str, node: dict[str, Any]) -> str:
    if media_type.startswith(_BINARY_KINDS) and "svg" not in media_type:
        return "binary"
    if media_type.startswith(_BINARY_TYPES) or mapping(node.get("schema")).get("format") == "binary":
        return "binary"
    if media_type.startswith("text/") or "xml" in media_type:
        return "text"
    return ""


def _schema(
    media: list[dict[str, dict[str, Any]]],
    outputs: Schemas,
    references: References,
    findings: Findings,
    name: str,
    limit: int,
) -> dict[str, Any] | None:
    """A schema is a promise that clients check, so it must cover every success there is."""
    described = [_json_schema(node) for node in media]
    first = described[0]
    if first is None or any(schema != first for schema in described):
        return None
    try:
        if not is_object(first, references):
            return None
        conversion = outputs.conversion()
        root = _root(first, conversion, references)
        whole = outputs.complete(root, conversion.uses, limit=limit)
        if whole is not None:
            whole = usable(whole)
    except LeaveOut as error:
        findings.count(_SCHEMA, str(error), name)
        return None
    if whole is None:
        findings.count(
            _SCHEMA, "It is too large to hand to clients with each tool; answers come as they are.", name
        )
        return None
    return {**whole, "type": "object"}


def _root(schema: dict[str, Any], conversion: Conversion, references: References) -> dict[str, Any]:
    """The answer's schema, its allOf made one list of properties where that says the same."""
    shape = shape_of(schema, references) if "allOf" in mapping(references.follow(schema)) else None
    if shape is None:
        return conversion.convert(schema)
    shown = [name for name in shape.properties if not any(map(conversion.hides, shape.properties[name]))]
    properties = {
        name: replace(conversion, base=shape.bases[name]).property(name, shape.schema(name)) for name in shown
    }
    required = [name for name in shape.required if name in shown]
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _json_schema(media: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    return next((mapping(node.get("schema")) or None for name, node in media.items() if _is_json(name)), None)
