"""resources/read, prompts/get and completion/complete: from the snapshot, or from where a part has its content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from servers.pipeline.parts import Content
from servers.pipeline.snapshot import Snapshot
from servers.protocol.content import DEGRADED, fit_block
from servers.protocol.errors import ProtocolError, invalid_params, resource_not_found
from servers.protocol.revisions import FEATURES, MODERN
from servers.runtimes import static
from servers.runtimes.remote.results import Reading
from servers.runtimes.remote.tool import RemoteCall

Json = dict[str, Any]
MAX_PROPOSALS = 100
# No tool has a time limit of its own here, so this one holds for all.
SECONDS = 30.0


async def read_resource(
    params: Mapping[str, Any], snapshot: Snapshot, revision: str, call: RemoteCall
) -> Json:
    uri = params.get("uri")
    if not isinstance(uri, str):
        raise invalid_params("resources/read needs the resource's uri as text.")
    found, values = _found(uri, snapshot, revision)
    if found.source is not None:
        reading = await _read_elsewhere(uri, found, revision, call)
        degraded = {"_meta": {DEGRADED: reading.degraded}} if reading.degraded else {}
        return {"contents": reading.contents} | degraded
    if values is None:
        return {"contents": [_content(uri, found.part, found.part.get("text"))]}
    text = _filled(found.part.get("text", ""), values, call.answer_bytes)
    return {"contents": [_content(uri, found.part, text)]}


def _found(uri: str, snapshot: Snapshot, revision: str) -> tuple[Content, Mapping[str, str] | None]:
    """The resource, or the template that gives it and the values of its variables."""
    resource = snapshot.resources.get(uri)
    if resource is not None:
        return resource, None
    try:
        found = static.first_match(snapshot.templates, uri)
    except static.TooManySteps as error:
        raise invalid_params(str(error)) from None
    if found is None:
        raise resource_not_found(uri, is_modern=revision == MODERN)
    return found


async def _read_elsewhere(uri: str, found: Content, revision: str, call: RemoteCall) -> Reading:
    assert found.source is not None
    try:
        return await found.source.read(uri, call)
    except ProtocolError as error:
        if error.reason != "resource_not_found":
            raise
        raise resource_not_found(uri, is_modern=revision == MODERN) from None


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


async def get_prompt(params: Mapping[str, Any], snapshot: Snapshot, revision: str, call: RemoteCall) -> Json:
    """`call.answer_bytes` bounds the characters of all messages together."""
    prompt = snapshot.prompts.get(str(params.get("name")))
    if prompt is None:
        raise invalid_params(f"There is no prompt {str(params.get('name'))[:128]!r}.")
    given = _prompt_arguments(params, prompt.part)
    result: Json = {}
    if prompt.part.get("description"):
        result["description"] = prompt.part["description"]
    if prompt.source is None:
        return {"messages": _messages(prompt.part, given, call.answer_bytes)} | result
    answer = await prompt.source.get(given, call)
    features = FEATURES[revision]
    messages = [message | {"content": fit_block(message["content"], features)} for message in answer.messages]
    return (
        result | {"messages": messages} | ({"description": answer.description} if answer.description else {})
    )


def _prompt_arguments(params: Mapping[str, Any], prompt: Json) -> dict[str, str]:
    given = params.get("arguments") or {}
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise invalid_params("Arguments of a prompt are an object of texts.")
    missing = [a["name"] for a in prompt.get("arguments", []) if a.get("required") and a["name"] not in given]
    if missing:
        raise invalid_params(f"This prompt needs {', '.join(missing)}.")
    return given


def _messages(prompt: Json, given: Mapping[str, str], limit: int) -> list[Json]:
    values = {a["name"]: given.get(a["name"], "") for a in prompt.get("arguments", [])}
    messages: list[Json] = []
    for message in prompt["messages"]:
        text = _filled(message["text"], values, limit)
        limit -= len(text)
        messages.append({"role": message["role"], "content": {"type": "text", "text": text}})
    return messages


async def completed(params: Mapping[str, Any], snapshot: Snapshot, call: RemoteCall) -> Json:
    reference, argument = params.get("ref"), params.get("argument")
    if not isinstance(reference, dict) or not isinstance(argument, dict):
        raise invalid_params("completion/complete needs a ref and an argument.")
    name, prefix = argument.get("name"), argument.get("value")
    if not isinstance(name, str) or not isinstance(prefix, str):
        raise invalid_params("The argument needs a name and a value as text.")
    referred = _referred(reference, snapshot)
    if referred.source is not None:
        context = params.get("context")
        argument, context = {"name": name, "value": prefix}, context if isinstance(context, dict) else None
        found = await referred.source.complete(argument, context, call)
        counted = {} if found.total is None else {"total": found.total}
        return {"completion": {"values": found.values, "hasMore": found.has_more} | counted}
    values = static.complete(_proposals(referred.part, name), prefix, limit=MAX_PROPOSALS + 1)
    has_more = len(values) > MAX_PROPOSALS
    return {"completion": {"values": values[:MAX_PROPOSALS], "hasMore": has_more}}


def _referred(reference: Json, snapshot: Snapshot) -> Content:
    if reference.get("type") == "ref/prompt":
        prompt = snapshot.prompts.get(str(reference.get("name")))
        if prompt is None:
            raise invalid_params("There is no such prompt to complete for.")
        return prompt
    if reference.get("type") == "ref/resource":
        uri = str(reference.get("uri"))
        template = next((t for _, t in snapshot.templates if t.part["uri_template"] == uri), None)
        found = template or snapshot.resources.get(uri)
        if found is None:
            raise invalid_params("There is no such resource template to complete for.")
        return found
    raise invalid_params("A ref is of type ref/prompt or ref/resource.")


def _proposals(part: Json, name: str) -> list[str]:
    """Those of a prompt's argument, or of a template's variable."""
    if "completions" in part:
        return list(part["completions"].get(name, []))
    return next((a.get("completions", []) for a in part.get("arguments", []) if a["name"] == name), [])
