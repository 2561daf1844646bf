"""Parts of a version that other MCP servers have, elsewhere or as uploaded code, made ready to be asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from servers.manifests import SECTIONS, source_of
from servers.pipeline.material import LIVE, Material
from servers.protocol.errors import ProtocolError
from servers.protocol.headers import mirrored_parameters
from servers.runtimes.base import ToolBinding
from servers.runtimes.code.configured import spec_of
from servers.runtimes.code.instance import Instance
from servers.runtimes.code.registry import CodeClients
from servers.runtimes.failing import FailingTool
from servers.runtimes.http.masking import Mask
from servers.runtimes.http.values import NotReady, Values
from servers.runtimes.remote.calling import Caller
from servers.runtimes.remote.configured import endpoint_of, seconds_of
from servers.runtimes.remote.registry import RemoteClients
from servers.runtimes.remote.results import Completion, PromptAnswer, Reading
from servers.runtimes.remote.tool import (
    RemoteCall,
    RemoteCompletions,
    RemotePrompt,
    RemoteResources,
    RemoteTool,
)

Json = dict[str, Any]
CHANGED = "definition_changed"
_HELD_BACK = (
    "The server this comes from has changed it since this version was published. It is held back until somebody "
    "has looked at the change and accepted it."
)


class Source(Protocol):
    """Where a resource or prompt is got from. Every method raises ProtocolError, in words for the caller."""

    @property
    def is_immediate(self) -> bool:
        """True when nobody is asked, so that there is nothing to remember."""

    async def read(self, uri: str, call: RemoteCall) -> Reading: ...

    async def get(self, arguments: Mapping[str, str], call: RemoteCall) -> PromptAnswer: ...

    async def complete(self, argument: Json, context: Json | None, call: RemoteCall) -> Completion: ...


@dataclass(frozen=True, slots=True)
class _Refusing:
    """Answers whatever it is asked with why it cannot."""

    is_immediate: ClassVar = True
    failure: str
    sentence: str

    async def read(self, uri: str, call: RemoteCall) -> Reading:
        raise self._error()

    async def get(self, arguments: Mapping[str, str], call: RemoteCall) -> PromptAnswer:
        raise self._error()

    async def complete(self, argument: Json, context: Json | None, call: RemoteCall) -> Completion:
        raise self._error()

    def _error(self) -> ProtocolError:
        data = {"code": self.failure, "class": "server"}
        return ProtocolError(503, self.sentence, data=data, http=503, reason=self.failure)


@dataclass(frozen=True, slots=True)
class _There:
    """What one part is called at its upstream and here, and how completions for it are asked for there."""

    theirs: str
    ours: str
    reference: Json


class _Remote:
    """One resource, template or prompt that is elsewhere."""

    is_immediate = False

    def __init__(self, client: Caller, mask: Mask, there: _There, seconds: float) -> None:
        self._there = there
        self._resources = RemoteResources(client, seconds=seconds, masking=mask)
        self._prompt = RemotePrompt(client, there.theirs, seconds=seconds, masking=mask)
        self._completions = RemoteCompletions(client, seconds=seconds, masking=mask)

    async def read(self, uri: str, call: RemoteCall) -> Reading:
        """What the upstream calls by its own address is told by the one it has here."""
        theirs = self._there.theirs if uri == self._there.ours else uri
        reading = await self._resources.read(theirs, call)
        contents = [
            content | {"uri": uri} if content["uri"] == theirs else content for content in reading.contents
        ]
        return replace(reading, contents=contents)

    async def get(self, arguments: Mapping[str, str], call: RemoteCall) -> PromptAnswer:
        return await self._prompt.get(arguments, call)

    async def complete(self, argument: Json, context: Json | None, call: RemoteCall) -> Completion:
        return await self._completions.complete(self._there.reference, argument, context, call)


class Remotes:
    """The upstreams of one version, each compiled once however many parts come from it.

    `code` is what was started ahead of calls.
    """

    def __init__(self, material: Material, clients: RemoteClients, code: CodeClients | None) -> None:
        self._material = material
        self._clients = clients
        self._code = code
        self._mask = Mask(material.secrets.values())
        self._reached: dict[str, Caller | NotReady] = {}
        self.code: list[Instance] = []

    def tool(self, tool: Json) -> ToolBinding:
        """Raises ValueError for an upstream that can never be asked."""
        remote = tool["remote"]
        if self._is_held_back("tools", remote["name"], remote):
            return FailingTool(CHANGED, _HELD_BACK)
        client = self._client(remote["upstream"])
        if isinstance(client, NotReady):
            return FailingTool(client.failure, client.sentence)
        hints = tool.get("annotations", {})
        # Code hears no headers.
        is_elsewhere = "url" in self._material.manifest["upstreams"][remote["upstream"]]
        return RemoteTool(
            client,
            remote["name"],
            is_idempotent=bool(hints.get("readOnlyHint") or hints.get("idempotentHint")),
            mirrored=mirrored_parameters(tool["input_schema"]) if is_elsewhere else (),
            seconds=seconds_of(remote),
            masking=self._mask,
        )

    def resource(self, part: Json) -> Source:
        theirs = part["remote"]["uri"]
        there = _There(theirs, part["uri"], {"type": "ref/resource", "uri": theirs})
        return self._source("resources", part, there)

    def template(self, part: Json) -> Source:
        """A template has one address, there and here, so that every URI made of it has too."""
        uri = part["uri_template"]
        return self._source(
            "resource_templates", part, _There(uri, uri, {"type": "ref/resource", "uri": uri})
        )

    def prompt(self, part: Json) -> Source:
        theirs = part["remote"]["name"]
        there = _There(theirs, part["name"], {"type": "ref/prompt", "name": theirs})
        return self._source("prompts", part, there)

    def _source(self, section: str, part: Json, there: _There) -> Source:
        remote = part["remote"]
        if self._is_held_back(section, there.theirs, remote):
            return _Refusing(CHANGED, _HELD_BACK)
        try:
            client = self._client(remote["upstream"])
        except ValueError as error:
            return _Refusing("upstream_broken", str(error))
        if isinstance(client, NotReady):
            return _Refusing(client.failure, client.sentence)
        return _Remote(client, self._mask, there, seconds_of(remote))

    def _is_held_back(self, section: str, theirs: str, remote: Json) -> bool:
        """Whether the definition that was pinned is no longer the upstream's, and that is to be refused."""
        upstream = self._material.manifest.get("upstreams", {}).get(remote["upstream"])
        if upstream is None or upstream.get("on_change") == "serve":
            return False
        seen = self._material.definitions.get((source_of(upstream), section, theirs))
        return seen is not None and seen != remote["digest"]

    def _client(self, name: str) -> Caller | NotReady:
        if name not in self._reached:
            self._reached[name] = self._compiled(name)
        return self._reached[name]

    def _compiled(self, name: str) -> Caller | NotReady:
        upstream = self._material.manifest.get("upstreams", {}).get(name)
        if upstream is None:
            raise ValueError("Its upstream is not declared any more.")
        try:
            if "code" in upstream:
                return self._compiled_code(name, upstream)
            values = Values(self._material.variables.get, self._material.secrets.get)
            return self._clients.get(str(self._material.tenant), endpoint_of(upstream, values))
        except NotReady as problem:
            return problem

    def _compiled_code(self, name: str, upstream: Json) -> Caller:
        material = self._material
        if self._code is None:
            raise NotReady("runner_away", "Uploaded code is not run here.")
        spec = spec_of(
            upstream,
            material.variables.get,
            material.secrets.get,
            tenant=str(material.tenant),
            server=str(material.server),
            place=f"{material.channel}/{name}"[:200],
            seconds=max(_seconds_of_parts(material.manifest, name), default=0.0),
        )
        client = self._code.get(spec)
        if material.channel == LIVE and isinstance(client, Instance):
            self._code.wake(client)
            self.code.append(client)
        return client


def _seconds_of_parts(manifest: Json, upstream: str) -> Iterator[float]:
    """How long each part of the upstream may take."""
    for section in SECTIONS:
        for part in manifest.get(section, []):
            if part.get("remote", {}).get("upstream") == upstream:
                yield seconds_of(part["remote"])
