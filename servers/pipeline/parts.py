"""The parts of a version, made ready: schemas compiled, requests parsed, secrets in place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mooring import __version__
from servers import schemas
from servers.pipeline import definitions
from servers.pipeline.caching import Answers, CachedSource, CachedTool, CachePolicy, SharedAnswers
from servers.pipeline.material import Material
from servers.pipeline.overriding import overridden
from servers.pipeline.remotes import Remotes, Source
from servers.protocol.headers import MirroredParameter, mirrored_parameters
from servers.runtimes import static
from servers.runtimes.base import ToolBinding
from servers.runtimes.code.instance import Instance
from servers.runtimes.code.registry import CodeClients
from servers.runtimes.failing import FailingTool
from servers.runtimes.http import tool as http
from servers.runtimes.remote.configured import seconds_of
from servers.runtimes.remote.endpoint import Introduction
from servers.runtimes.remote.registry import RemoteClients
from servers.runtimes.upstreams import Upstreams

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Runtimes:
    """What all bindings of a process share: connections, MCP clients, remembered answers. Without `code` none runs."""

    upstreams: Upstreams
    clients: RemoteClients
    answers: Answers
    code: CodeClients | None = None

    @classmethod
    def over(
        cls, upstreams: Upstreams, shared: SharedAnswers | None = None, *, runner: Path | None = None
    ) -> Runtimes:
        """To be called on the event loop when there is a `runner`, which is the folder of its socket."""
        introduction = Introduction(version=__version__)
        return cls(
            upstreams,
            RemoteClients(upstreams, introduction=introduction),
            Answers(shared),
            None if runner is None else CodeClients(runner, introduction=introduction),
        )

    async def close_idle(self) -> None:
        """To be called every minute or so."""
        await self.clients.close_idle()
        await self.upstreams.close_idle()
        if self.code is not None:
            await self.code.close_idle()

    async def close(self) -> None:
        """What is running fails."""
        await self.answers.close()
        await self.clients.close()
        await self.upstreams.close()
        if self.code is not None:
            await self.code.close()


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
class Content:
    """A resource, resource template or prompt of the manifest; with `source`, what it holds is elsewhere."""

    part: Json
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a version serves, by what each part is called; all in the order of their lists.

    `code` is started ahead, since it is live.
    """

    tools: dict[str, Tool]
    resources: dict[str, Content]
    templates: tuple[tuple[static.UriTemplate, Content], ...]
    prompts: dict[str, Content]
    code: tuple[Instance, ...] = ()


def parts_of(material: Material, runtimes: Runtimes) -> Parts:
    manifest = material.manifest
    remotes = Remotes(material, runtimes.clients, runtimes.code)
    return Parts(
        tools={
            tool["name"]: _tool(tool, material, remotes, runtimes) for tool in _enabled(manifest, "tools")
        },
        resources={
            part["uri"]: _content(part, remotes.resource, material, runtimes)
            for part in _enabled(manifest, "resources")
        },
        templates=_templates(material, remotes, runtimes),
        prompts={
            part["name"]: _content(part, remotes.prompt, material, runtimes)
            for part in _enabled(manifest, "prompts")
        },
        code=tuple(remotes.code),  # known once the parts are made
    )


def _enabled(manifest: Json, kind: str) -> list[Json]:
    return [part for part in manifest.get(kind, []) if part.get("enabled", True)]


def _templates(
    material: Material, remotes: Remotes, runtimes: Runtimes
) -> tuple[tuple[static.UriTemplate, Content], ...]:
    """Parsed once; a draft's template that cannot be parsed is left out until it is mended."""
    parsed: list[tuple[static.UriTemplate, Content]] = []
    for part in _enabled(material.manifest, "resource_templates"):
        with contextlib.suppress(ValueError):
            template = static.parse_uri_template(part["uri_template"])
            parsed.append((template, _content(part, remotes.template, material, runtimes)))
    return tuple(parsed)


def _content(
    part: Json, source_of: Callable[[Json], Source], material: Material, runtimes: Runtimes
) -> Content:
    if "remote" not in part:
        return Content(part)
    source = source_of(part)
    if "cache" in part and not source.is_immediate:
        source = CachedSource(
            source,
            CachePolicy(**part["cache"]),
            runtimes.answers,
            material.digest_for(part),
            by_session=_is_by_session(part, material),
        )
    return Content(part, source)


def _is_by_session(part: Json, material: Material) -> bool:
    """Whether each client session has a process of its own where the part comes from."""
    upstream = material.manifest.get("upstreams", {}).get(part.get("remote", {}).get("upstream"), {})
    return bool(upstream.get("mode") == "session")


def _tool(tool: Json, material: Material, remotes: Remotes, runtimes: Runtimes) -> Tool:
    output = tool.get("output_schema")
    binding = _remembering(tool, _binding(tool, material, remotes, runtimes), material, runtimes)
    return Tool(
        definition=definitions.of_tool(tool),
        validator=schemas.compile_schema(tool["input_schema"]),
        output_validator=None if output is None else schemas.compile_schema(output),
        output_schema=output,
        binding=overridden(tool["name"], binding, material.switches),
        mirrored=mirrored_parameters(tool["input_schema"]),
        seconds=seconds_of(tool.get("http") or tool.get("remote") or {}),
    )


def _binding(tool: Json, material: Material, remotes: Remotes, runtimes: Runtimes) -> ToolBinding:
    try:
        if "remote" in tool:
            return remotes.tool(tool)
        if "http" in tool:
            return http.compile_tool(
                tool["http"],
                variables=material.variables,
                secrets=material.secrets,
                upstreams=runtimes.upstreams,
                tenant=str(material.tenant),
            )
        return static.compile_tool(tool["static"])
    except ValueError as error:
        return FailingTool("tool_broken", f"This tool cannot run: {error}")


def _remembering(tool: Json, binding: ToolBinding, material: Material, runtimes: Runtimes) -> ToolBinding:
    if "cache" not in tool or binding.is_immediate:
        return binding
    return CachedTool(
        binding,
        CachePolicy(**tool["cache"]),
        runtimes.answers,
        material.digest_for(tool),
        by_session=_is_by_session(tool, material),
    )
