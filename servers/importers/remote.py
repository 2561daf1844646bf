"""What an MCP server elsewhere offers, and how its definitions become parts of a manifest."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mooring.egress.session import session
from mooring.errors import UpstreamFailed
from servers.runtimes.remote.asking import About
from servers.runtimes.remote.client import RemoteClient
from servers.runtimes.remote.definitions import digest_of
from servers.runtimes.remote.endpoint import Endpoint
from servers.runtimes.remote.failures import CallFailed
from servers.runtimes.remote.hidden import hidden_characters
from servers.runtimes.remote.listing import Kind, Listing
from servers.runtimes.upstreams import Upstreams

Json = dict[str, Any]
SECONDS = 60.0
# What MCP calls them, what a manifest does, and the member that names one there.
KINDS: tuple[tuple[Kind, str, str], ...] = (
    ("tools", "tools", "name"),
    ("resources", "resources", "uri"),
    ("resourceTemplates", "resource_templates", "uriTemplate"),
    ("prompts", "prompts", "name"),
)
_HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_NAME = 128


@dataclass(frozen=True, slots=True)
class Found:
    """One definition as an upstream lists it. `section` is the manifest's; `name` its name or URI there."""

    section: str
    name: str
    digest: str
    definition: Json


@dataclass(frozen=True, slots=True)
class Look:
    """`problems` are sentences on what was left out of the lists."""

    about: About
    found: tuple[Found, ...]
    problems: tuple[str, ...]


def look(tenant: str, endpoint: Endpoint) -> Look:
    """Ask an upstream for all it lists, within a minute. For threads without a running loop.

    Raises `UpstreamFailed` with a sentence that tells no address of the inside.
    """
    try:
        return asyncio.run(_look(tenant, endpoint))
    except CallFailed as failed:
        raise UpstreamFailed(failed.sentence, code=failed.failure) from None


async def _look(tenant: str, endpoint: Endpoint) -> Look:
    upstreams = Upstreams(session)
    client = RemoteClient(endpoint, upstreams.get(tenant, endpoint.place))
    deadline = asyncio.get_running_loop().time() + SECONDS
    try:
        about = await client.about(deadline=deadline)
        listings = [(kind, await client.list_all(kind, deadline=deadline)) for kind, _, _ in KINDS]
    finally:
        await client.close()
        await upstreams.close()
    return _told(about, dict(listings))


def _told(about: About, listings: Mapping[Kind, Listing]) -> Look:
    found = [
        Found(section, definition[key], digest_of(definition), definition)
        for kind, section, key in KINDS
        for definition in listings[kind].definitions
    ]
    problems = [problem for listing in listings.values() for problem in listing.problems]
    problems += [listing.cut for listing in listings.values() if listing.cut]
    return Look(about, tuple(found), tuple(problems))


# ---- parts of a manifest ---------------------------------------------------------------------------------


def part_of(
    section: str, definition: Mapping[str, Any], *, upstream: str, digest: str, taken: Collection[str] = ()
) -> Json:
    """The definition as an entry of the section, pinned to its digest. `taken` are the names in use already."""
    return _MAKERS[section](definition, {"upstream": upstream, "digest": digest}, taken)


def _tool(definition: Mapping[str, Any], remote: Json, taken: Collection[str]) -> Json:
    cleaned = _NOT_IN_NAMES.sub("_", definition["name"]).strip("_")[:_LONGEST_NAME] or "tool"
    annotations = definition.get("annotations")
    hints = annotations if isinstance(annotations, dict) else {}
    part: Json = {"name": _free(cleaned, taken)} | _texts(definition, hints.get("title"))
    part["input_schema"] = definition["inputSchema"]
    if isinstance(definition.get("outputSchema"), dict):
        part["output_schema"] = definition["outputSchema"]
    part["annotations"] = {name: hints[name] for name in _HINTS if isinstance(hints.get(name), bool)}
    return part | {"remote": remote | {"name": definition["name"]}}


def _resource(definition: Mapping[str, Any], remote: Json, taken: Collection[str]) -> Json:
    part = _named(definition) | {"uri": definition["uri"]} | _mime_type(definition)
    return part | {"remote": remote | {"uri": definition["uri"]}}


def _template(definition: Mapping[str, Any], remote: Json, taken: Collection[str]) -> Json:
    part = _named(definition) | {"uri_template": definition["uriTemplate"]} | _mime_type(definition)
    return part | {"remote": remote}


def _prompt(definition: Mapping[str, Any], remote: Json, taken: Collection[str]) -> Json:
    part = _named(definition)
    part["name"] = _free(part["name"], taken)
    arguments = definition.get("arguments")
    part["arguments"] = [
        {"name": str(argument["name"])[:_LONGEST_NAME], "required": argument.get("required") is True}
        | _texts(argument)
        for argument in (arguments if isinstance(arguments, list) else [])
        if isinstance(argument, dict) and isinstance(argument.get("name"), str)
    ]
    return part | {"remote": remote | {"name": definition["name"]}}


_MAKERS = {"tools": _tool, "resources": _resource, "resource_templates": _template, "prompts": _prompt}


def _free(name: str, taken: Collection[str]) -> str:
    free, number = name, 2
    while free in taken:
        free, number = f"{name[: _LONGEST_NAME - 6]}_{number}", number + 1
    return free


def _named(definition: Mapping[str, Any]) -> Json:
    name = definition.get("name") or definition.get("uri") or definition.get("uriTemplate")
    return {"name": str(name)[:_LONGEST_NAME]} | _texts(definition)


def _texts(definition: Mapping[str, Any], title: object = None) -> Json:
    title, description = definition.get("title") or title, definition.get("description")
    texts: Json = {"title": title[:200]} if isinstance(title, str) and title else {}
    return texts | (
        {"description": description[:20_000]} if isinstance(description, str) and description else {}
    )


def _mime_type(definition: Mapping[str, Any]) -> Json:
    mime_type = definition.get("mimeType")
    return {"mime_type": mime_type[:120]} if isinstance(mime_type, str) and mime_type else {}


def warnings_of(definition: Mapping[str, Any]) -> list[str]:
    """Sentences on characters in names and descriptions that a reader would not see, wherever they are."""
    return [
        f"{place}: {hidden.name} at {hidden.position}"
        for place, text in _all_texts(definition, "")
        for hidden in hidden_characters(text)[:5]
    ][:20]


def _all_texts(value: Any, place: str) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(place, value)]
    if isinstance(value, list):
        return [text for index, part in enumerate(value) for text in _all_texts(part, f"{place}[{index}]")]
    if not isinstance(value, dict):
        return []
    found = [(f"a name in {place or 'it'}", str(name)) for name in value]
    for name, part in value.items():
        found += _all_texts(part, f"{place}.{name}" if place else str(name))
    return found
