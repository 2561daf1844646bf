"""A request body → arguments, and how they are written into the request."""

from __future__ import annotations

from typing import Any

from servers.importers.openapi.arguments import Arguments
from servers.importers.openapi.findings import Findings, LeaveOut
from servers.importers.openapi.objects import Shape, shape_of
from servers.importers.openapi.reading import mapping, named
from servers.importers.openapi.references import References
from servers.importers.openapi.wire_names import MAX_LENGTH

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
_FILE = {"type": "string", "contentEncoding": "base64"}
_BASE64 = "A file, given as base64."
_FILES = ("application/octet-stream", "application/pdf", "application/zip", "application/gzip")
_FILE_KINDS = ("image/", "audio/", "video/")


def add_body(
    node: object, arguments: Arguments, references: References, findings: Findings, operation: str
) -> dict[str, Any] | None:
    """The `body` of a request template; None when there is none.

    Raises `LeaveOut` when a required body is of a kind that cannot be sent.
    """
    body = mapping(references.follow(node))
    offered = {name: mapping(references.follow(media)) for name, media in named(body.get("content"))}
    if not offered:
        return None
    required = body.get("required") is True
    choice = _choose(offered)
    if choice is None:
        kinds = ", ".join(name[:60] for name in list(offered)[:5])
        why = f"Its body is {kinds}. Only JSON, forms, plain text and files can be sent."
        if required:
            raise LeaveOut(why)
        findings.add(f"{operation}, body", why)
        return None
    media_type, content_type = choice
    built = _build(content_type, offered[media_type], body, arguments, references, required=required)
    return {"content_type": content_type, **built, **({"required": True} if required else {})}


def _choose(offered: dict[str, dict[str, Any]]) -> tuple[str, str] | None:
    """The media type to use, as the document spells it and as it is sent."""
    ranks = [
        (_rank(_essence(name)), index, name)
        for index, name in enumerate(offered)
        if _rank(_essence(name)) is not None and not _is_impossible(name, offered[name])
    ]
    if not ranks:
        return None
    name = min(ranks)[2]
    return name, _sent_as(name)


def _essence(media_type: str) -> str:
    return media_type.partition(";")[0].strip().lower()


def _rank(essence: str) -> int | None:
    if essence == "application/json":
        return 0
    if essence.endswith("+json"):
        return 1
    if _is_file_type(essence):
        return 6
    return {FORM: 2, MULTIPART: 3, "text/plain": 4, "text/markdown": 4, "application/*": 5, "*/*": 5}.get(
        essence
    )


def _is_file_type(essence: str) -> bool:
    return essence in _FILES or (essence.startswith(_FILE_KINDS) and not essence.endswith(("*", "+xml")))


def _is_impossible(media_type: str, media: dict[str, Any]) -> bool:
    """A wildcard for a file is no JSON."""
    return (
        "*" in media_type
        and "+json" not in media_type
        and mapping(media.get("schema")).get("format") == "binary"
    )


def _sent_as(media_type: str) -> str:
    return "application/json" if "*" in media_type else _essence(media_type)


def _build(
    content_type: str,
    media: dict[str, Any],
    body: dict[str, Any],
    arguments: Arguments,
    references: References,
    *,
    required: bool,
) -> dict[str, Any]:
    schema = media.get("schema", {})
    if content_type.startswith("text/"):
        schema = schema if mapping(references.follow(schema)).get("type") == "string" else {"type": "string"}
        return {"argument": _whole(schema, body, arguments, required=required)}
    if _is_file_type(content_type):
        return {"argument": _whole(_FILE, body, arguments, required=required, notes=_BASE64), "binary": True}
    shape = shape_of(schema, references)
    if shape is not None and all(0 < len(name) <= MAX_LENGTH for name in shape.properties):
        fields, files = _fields(shape, arguments, required=required, is_multipart=content_type == MULTIPART)
        if fields:
            return {"fields": fields, **({"binary": files} if files else {})}
    if content_type in (FORM, MULTIPART):
        schema = schema if mapping(references.follow(schema)).get("type") == "object" else {"type": "object"}
    return {"argument": _whole(schema, body, arguments, required=required)}


def _whole(
    schema: object, body: dict[str, Any], arguments: Arguments, *, required: bool, notes: str = ""
) -> str:
    if body.get("description") and isinstance(schema, dict) and not schema.get("description"):
        schema = {**schema, "description": body["description"]}
    return arguments.add("body", "body", schema, required=required, notes=notes)


def _fields(
    shape: Shape, arguments: Arguments, *, required: bool, is_multipart: bool
) -> tuple[dict[str, str], list[str]]:
    """Arguments by wire name, and which are files. An optional body asks for none, for it may be left out."""
    hides = arguments.conversion.hides
    fields: dict[str, str] = {}
    files: list[str] = []
    for name in shape.properties:
        schema = shape.schema(name)
        if any(hides(part) for part in shape.properties[name]):
            continue
        notes = ""
        if is_multipart and _is_file(schema):
            schema, notes = _as_base64(schema), _BASE64
            files.append(name)
        is_needed = required and name in shape.required
        fields[name] = arguments.add(
            name, "body", schema, required=is_needed, notes=notes, base=shape.bases[name]
        )
    return fields, files


def _is_file(schema: object) -> bool:
    node = mapping(schema)
    if node.get("type") == "array":
        return _is_file(node.get("items"))
    if node.get("type") == "file" or node.get("format") == "binary":
        return True
    return "contentMediaType" in node and "contentEncoding" not in node


def _as_base64(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "array":
        return {**schema, "items": _as_base64(mapping(schema.get("items")))}
    kept = {
        key: value
        for key, value in schema.items()
        if key not in ("format", "maxLength", "minLength", "pattern")
    }
    return {**kept, "type": "string", "contentEncoding": "base64"}
