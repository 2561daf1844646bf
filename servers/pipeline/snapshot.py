"""One version of a server on one channel, made ready: everything a call needs, nothing left to look up."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from servers.pipeline import composing, definitions
from servers.pipeline.material import Material
from servers.pipeline.overriding import Switch
from servers.pipeline.parts import Content, Runtimes, Tool
from servers.protocol.content import fit_definition
from servers.runtimes import static
from servers.runtimes.code.instance import Instance

Json = dict[str, Any]
PAGE = 100
KINDS = ("tools", "resources", "resourceTemplates", "prompts")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`missing` tells which members of a composition, or parts of them, are not served or may fail, and why.

    `members` are the servers it is made of; with `may_gain`, one of them does not exist yet. `switches` are those of
    all of them; `code` is what has to run for its calls to be answered, where that is started ahead.
    """

    server: uuid.UUID
    version: str
    channel: str
    info: Mapping[str, str]
    instructions: str
    tools: Mapping[str, Tool]
    resources: Mapping[str, Content]
    templates: tuple[tuple[static.UriTemplate, Content], ...]
    prompts: Mapping[str, Content]
    listed: Mapping[str, tuple[Json, ...]]
    missing: tuple[str, ...] = ()
    members: frozenset[str] = frozenset()
    may_gain: bool = False
    ordinal: int = 0
    switches: tuple[Switch, ...] = ()
    code: tuple[Instance, ...] = ()
    # Encoded pages by (kind, revision, offset): at most lists x revisions x pages, made on first use.
    _pages: dict[tuple[str, str, int], bytes] = field(default_factory=dict)

    def page(self, kind: str, revision: str, offset: int) -> bytes:
        """JSON array of the definitions on the page that begins at `offset`, fitted to the revision."""
        key = (kind, revision, offset)
        encoded = self._pages.get(key)
        if encoded is None:
            part = self.listed[kind][offset : offset + PAGE]
            encoded = msgspec.json.encode([fit_definition(definition, revision) for definition in part])
            self._pages[key] = encoded
        return encoded

    def next_offset(self, kind: str, offset: int) -> int | None:
        return offset + PAGE if offset + PAGE < len(self.listed[kind]) else None


def build(material: Material, runtimes: Runtimes) -> Snapshot:
    settings = material.manifest.get("server", {})
    parts, missing = composing.composed(material, runtimes)
    return Snapshot(
        server=material.server,
        version=material.version,
        channel=material.channel,
        info={
            "name": material.slug,
            "title": settings.get("title", material.slug),
            "version": material.version,
        },
        instructions=composing.instructions(material),
        tools=parts.tools,
        resources=parts.resources,
        templates=parts.templates,
        prompts=parts.prompts,
        listed={
            "tools": tuple(tool.definition for tool in parts.tools.values()),
            "resources": tuple(
                definitions.of_resource(resource.part) for resource in parts.resources.values()
            ),
            "resourceTemplates": tuple(
                definitions.of_template(template.part) for _, template in parts.templates
            ),
            "prompts": tuple(definitions.of_prompt(prompt.part) for prompt in parts.prompts.values()),
        },
        missing=missing,
        members=frozenset(str(member.server) for member in material.members if member.server),
        may_gain=any(member.server is None for member in material.members),
        ordinal=material.ordinal,
        switches=sum(
            (member.material.switches for member in material.members if member.material), material.switches
        ),
        code=parts.code,
    )
