"""Answers of the methods that only read the snapshot: lists, prompts, resources, completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from servers.pipeline.directory import Directory, Endpoint
from servers.pipeline.loading import DRAFT
from servers.pipeline.snapshot import Snapshot
from servers.protocol.errors import ProtocolError, invalid_params, resource_not_found
from servers.protocol.revisions import MODERN
from servers.protocol.tokens import Cursor, InvalidToken, Sealer
from servers.runtimes import static

Json = dict[str, Any]
MAX_PROPOSALS = 100
LISTS = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}


async def listed(
    method: str,
    params: Mapping[str, Any],
    snapshot: Snapshot,
    revision: str,
    *,
    endpoint: Endpoint,
    directory: Directory,
    sealer: Sealer,
) -> Json:
    """A page of a list. A cursor goes on in the version its first page came from."""
    kind, offset = LISTS[method], 0
    if params.get("cursor") is not None:
        cursor = _opened(params["cursor"], kind, snapshot, sealer)
        offset = cursor.offset
        if cursor.version != snapshot.version:
            pinned = await directory.snapshot(endpoint, cursor.version)
            if pinned is None or offset >= len(pinned.listed[kind]):
                raise _bad_cursor()
            snapshot = pinned
    result: Json = {kind: msgspec.Raw(snapshot.page(kind, revision, offset))}
    following = snapshot.next_offset(kind, offset)
    if following is not None:
        result["nextCursor"] = sealer.cursor(Cursor(snapshot.server, snapshot.version, kind, following))
    return result


def _opened(token: object, kind: str, snapshot: Snapshot, sealer: Sealer) -> Cursor:
    if not isinstance(token, str):
        raise _bad_cursor()
    try:
        cursor = sealer.open_cursor(token)
    except InvalidToken:
        raise _bad_cursor() from None
    # A cursor of the draft must not open it to those who may only call what is published.
    crosses = (cursor.version == DRAFT) != (snapshot.version == DRAFT)
    if cursor.kind != kind or cursor.server != snapshot.server or crosses:
        raise _bad_cursor()
    return cursor


def _bad_cursor() -> ProtocolError:
    return invalid_params("This cursor is not one of this list. Start again without a cursor.")


def read_resource(params: Mapping[str, Any], snapshot: Snapshot, revision: str, *, limit: int) -> Json:
    uri = params.get("uri")
    if not isinstance(uri, str):
        raise invalid_params("resources/read needs the resource's uri as text.")
    resource = snapshot.resources.get(uri)
    if resource is not None:
        return {"contents": [_content(uri, resource, resource.get("text"))]}
    for pattern, template in snapshot.templates:
        values = pattern.match(uri)
        if values is not None:
            return {"contents": [_content(uri, template, _filled(template.get("text", ""), values, limit))]}
    raise resource_not_found(uri, is_modern=revision == MODERN)


def _content(uri: str, part: Json, text: str | None) -> Json:
    content: Json = {"uri": uri}
    if part.get("mime_type"):
        content["mimeType"] = part["mime_type"]
    if text is None:
        content["blob"] = part.get("blob", "")
    else:
        content["text"] = text
    return content


def _filled(text: str, values: Mapping[str, Any], limit: int) -> str:
    try:
        return static.fill(text, values, limit=limit)
    except static.TooLong as error:
        raise invalid_params(str(error)) from None


def get_prompt(params: Mapping[str, Any], snapshot: Snapshot, *, limit: int) -> Json:
    """`limit` bounds the characters of all messages together."""
    prompt = snapshot.prompts.get(str(params.get("name")))
    if prompt is None:
        raise invalid_params(f"There is no prompt {str(params.get('name'))[:128]!r}.")
    given = params.get("arguments") or {}
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise invalid_params("Arguments of a prompt are an object of texts.")
    missing = [a["name"] for a in prompt.get("arguments", []) if a.get("required") and a["name"] not in given]
    if missing:
        raise invalid_params(f"This prompt needs {', '.join(missing)}.")
    values = {a["name"]: given.get(a["name"], "") for a in prompt.get("arguments", [])}
    messages: list[Json] = []
    for message in prompt["messages"]:
        text = _filled(message["text"], values, limit)
        limit -= len(text)
        messages.append({"role": message["role"], "content": {"type": "text", "text": text}})
    result: Json = {"messages": messages}
    if prompt.get("description"):
        result["description"] = prompt["description"]
    return result


def completed(params: Mapping[str, Any], snapshot: Snapshot) -> Json:
    reference, argument = params.get("ref"), params.get("argument")
    if not isinstance(reference, dict) or not isinstance(argument, dict):
        raise invalid_params("completion/complete needs a ref and an argument.")
    name, prefix = argument.get("name"), argument.get("value")
    if not isinstance(name, str) or not isinstance(prefix, str):
        raise invalid_params("The argument needs a name and a value as text.")
    values = static.complete(_proposals(reference, name, snapshot), prefix, limit=MAX_PROPOSALS + 1)
    has_more = len(values) > MAX_PROPOSALS
    return {"completion": {"values": values[:MAX_PROPOSALS], "hasMore": has_more}}


def _proposals(reference: Json, name: str, snapshot: Snapshot) -> list[str]:
    if reference.get("type") == "ref/prompt":
        prompt = snapshot.prompts.get(str(reference.get("name")))
        if prompt is None:
            raise invalid_params("There is no such prompt to complete for.")
        return next((a.get("completions", []) for a in prompt.get("arguments", []) if a["name"] == name), [])
    if reference.get("type") == "ref/resource":
        uri = str(reference.get("uri"))
        template = next((t for _, t in snapshot.templates if t["uri_template"] == uri), None)
        if template is None and uri not in snapshot.resources:
            raise invalid_params("There is no such resource template to complete for.")
        return list((template or {}).get("completions", {}).get(name, []))
    raise invalid_params("A ref is of type ref/prompt or ref/resource.")
