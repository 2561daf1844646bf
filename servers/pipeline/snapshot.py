"""One version of a server on one channel, made ready: everything a call needs, nothing left to look up."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from servers import schemas
from servers.protocol.content import fit_definition
from servers.protocol.headers import MirroredParameter, mirrored_parameters
from servers.runtimes import static
from servers.runtimes.base import Outcome, ToolBinding, ToolCall, text_outcome
from servers.runtimes.http import tool as http
from servers.runtimes.upstreams import Upstreams

Json = dict[str, Any]
PAGE = 100
KINDS = ("tools", "resources", "resourceTemplates", "prompts")


@dataclass(frozen=True, slots=True)
class Tool:
    definition: Json
    validator: schemas.Validator
    output_validator: schemas.Validator | None
    output_schema: Any
    binding: ToolBinding
    mirrored: tuple[MirroredParameter, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Material:
    """What a snapshot is built from."""

    tenant: uuid.UUID
    server: uuid.UUID
    slug: str
    version: str
    channel: str
    manifest: Json
    variables: Mapping[str, str]
    secrets: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    server: uuid.UUID
    version: str
    channel: str
    info: Mapping[str, str]
    instructions: str
    tools: Mapping[str, Tool]
    resources: Mapping[str, Json]
    templates: tuple[tuple[static.UriTemplate, Json], ...]
    prompts: Mapping[str, Json]
    listed: Mapping[str, tuple[Json, ...]]
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


def build(material: Material, upstreams: Upstreams) -> Snapshot:
    manifest = material.manifest
    settings = manifest.get("server", {})
    tools = {tool["name"]: _tool(tool, material, upstreams) for tool in _enabled(manifest, "tools")}
    resources = {resource["uri"]: resource for resource in _enabled(manifest, "resources")}
    templates = _templates(manifest)
    prompts = {prompt["name"]: prompt for prompt in _enabled(manifest, "prompts")}
    return Snapshot(
        server=material.server,
        version=material.version,
        channel=material.channel,
        info={
            "name": material.slug,
            "title": settings.get("title", material.slug),
            "version": material.version,
        },
        instructions=settings.get("instructions", ""),
        tools=tools,
        resources=resources,
        templates=templates,
        prompts=prompts,
        listed={
            "tools": tuple(tool.definition for tool in tools.values()),
            "resources": tuple(_resource_definition(resource) for resource in resources.values()),
            "resourceTemplates": tuple(_template_definition(template) for _, template in templates),
            "prompts": tuple(_prompt_definition(prompt) for prompt in prompts.values()),
        },
    )


def _enabled(manifest: Json, kind: str) -> list[Json]:
    return [part for part in manifest.get(kind, []) if part.get("enabled", True)]


def _templates(manifest: Json) -> tuple[tuple[static.UriTemplate, Json], ...]:
    """Parsed once; a draft's template that cannot be parsed is left out until it is mended."""
    parsed: list[tuple[static.UriTemplate, Json]] = []
    for template in _enabled(manifest, "resource_templates"):
        with contextlib.suppress(ValueError):
            parsed.append((static.parse_uri_template(template["uri_template"]), template))
    return tuple(parsed)


class BrokenTool:
    """Stands for a draft's tool that cannot be made ready, so that the others still work."""

    is_immediate = True

    def __init__(self, why: str) -> None:
        self._why = why

    async def call(self, call: ToolCall) -> Outcome:
        return text_outcome(f"This tool cannot run: {self._why}", is_error=True, failure="tool_broken")


def _tool(tool: Json, material: Material, upstreams: Upstreams) -> Tool:
    output = tool.get("output_schema")
    return Tool(
        definition=_tool_definition(tool),
        validator=schemas.compile_schema(tool["input_schema"]),
        output_validator=None if output is None else schemas.compile_schema(output),
        output_schema=output,
        binding=_binding(tool, material, upstreams),
        mirrored=mirrored_parameters(tool["input_schema"]),
        seconds=float(tool.get("http", {}).get("timeout_seconds", 30)),
    )


def _binding(tool: Json, material: Material, upstreams: Upstreams) -> ToolBinding:
    try:
        if "http" in tool:
            return http.compile_tool(
                tool["http"],
                variables=material.variables,
                secrets=material.secrets,
                upstreams=upstreams,
                tenant=str(material.tenant),
            )
        return static.compile_tool(tool["static"])
    except ValueError as error:
        return BrokenTool(str(error))


def _tool_definition(tool: Json) -> Json:
    definition = _named(tool, {"outputSchema": "output_schema", "annotations": "annotations"})
    definition["inputSchema"] = tool["input_schema"]
    return definition


def _resource_definition(resource: Json) -> Json:
    return _named(resource, {"uri": "uri", "mimeType": "mime_type", "annotations": "annotations"})


def _template_definition(template: Json) -> Json:
    return _named(
        template, {"uriTemplate": "uri_template", "mimeType": "mime_type", "annotations": "annotations"}
    )


def _prompt_definition(prompt: Json) -> Json:
    definition = _named(prompt, {})
    if prompt.get("arguments"):
        definition["arguments"] = [
            {key: argument[key] for key in ("name", "description", "required") if argument.get(key)}
            for argument in prompt["arguments"]
        ]
    return definition


def _named(part: Json, members: Mapping[str, str]) -> Json:
    """A definition on the wire: name, title and description, then the given members that have a value."""
    wanted = {"name": "name", "title": "title", "description": "description"} | dict(members)
    return {wire: part[ours] for wire, ours in wanted.items() if part.get(ours) not in (None, "", {})}
