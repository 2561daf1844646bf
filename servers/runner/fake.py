"""An engine without processes, for tests of the platform: the same life of instances, the same endpoints.

Its servers do what a test tells them: fail at their start, or die at any moment (`FakeServer.kill`). Its builds look at
no upload: what comes of them is what the test has put into `FakeEngine.offer`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from servers.protocol.revisions import MODERN, NEWEST_HANDSHAKE
from servers.runner.connections import Connection, Prepared
from servers.runner.engine import GIB, BuildEvent, BuildResult, BuildSpec, Capabilities, Era, Heard, RunSpec
from servers.runner.errors import Died, Missing, Refused, TimedOut
from servers.runner.hosted import HostedEngine
from servers.runner.instance import RULES, Rules
from servers.runner.instances import Instances
from servers.runner.logs import Log
from servers.runner.relay import Answer

_TOOLS = tuple({"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "sleep"))
OFFER = BuildResult(
    digest="", size=0, python="3.11.2", target="server.py", name="fake", version="1", tools=_TOOLS
)
_STAGES = ("read", "declare", "resolve", "install", "pack", "try", "done")
SAFE = Capabilities(
    engine="fake", namespaces=True, system_calls=True, memory=True, processes=True, own_user=True
)


class FakeServer:
    """One running server (`connections.Connection`).

    It lists what was offered. Every tool gives back its arguments, every resource and prompt its name; a tool `sleep`
    takes a number of seconds first.
    """

    def __init__(self, spec: RunSpec, log: Log, offer: BuildResult = OFFER) -> None:
        self.era: Era = "handshake" if "handshake" in {spec.era, offer.era} else "modern"
        self.spec, self.offer = spec, offer
        self.greeting = Raw(msgspec.json.encode(_greeting(self.era, offer)))
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.in_flight = 0
        self.unanswered_since: float | None = None
        self.list_changes = 0
        # The parameters of the last call.
        self.asked: dict[str, Any] = {}
        self._log = log
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()

    async def call(self, method: str, params: bytes | Raw, *, seconds: float) -> Answer:
        given = self.asked = msgspec.json.decode(params)
        self.in_flight += 1
        self._is_quiet.clear()
        try:
            await self._take_time(given, seconds)
            return self._answer(method, given)
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._is_quiet.set()

    async def _take_time(self, given: dict[str, Any], seconds: float) -> None:
        wanted = given.get("arguments", {}).get("seconds", 0.0) if given.get("name") == "sleep" else 0.0
        await asyncio.wait([self.gone], timeout=min(wanted, seconds))
        if self.gone.done():
            reason = self.gone.result()
            raise Died(f"The server's process is gone: {reason}.", reason=reason, log=self._log.tail())
        if wanted > seconds:
            raise TimedOut(f"The server has not answered within {seconds:g} s.")

    def _answer(self, method: str, given: dict[str, Any]) -> Answer:
        """`given` are the parameters of the request."""
        name = str(given.get("name", given.get("uri", "")))
        match method:
            case "server/discover" if self.era == "modern":
                return Answer(result=self.greeting)
            case "tools/list" | "resources/list" | "resources/templates/list" | "prompts/list":
                return _result(self._lists()[method])
            case "tools/call" if name in {tool["name"] for tool in self.offer.tools}:
                text = msgspec.json.encode(given.get("arguments", {})).decode()
                return _result({"content": [{"type": "text", "text": text}]})
            case "resources/read":
                return _result({"contents": [{"uri": name, "text": name}]})
            case "prompts/get":
                content = {"type": "text", "text": name}
                return _result({"messages": [{"role": "user", "content": content}]})
        return Answer(error=Raw(msgspec.json.encode({"code": -32601, "message": f"No method {method}."})))

    def _lists(self) -> dict[str, dict[str, Any]]:
        return {
            "tools/list": {"tools": self.offer.tools},
            "resources/list": {"resources": self.offer.resources},
            "resources/templates/list": {"resourceTemplates": self.offer.resource_templates},
            "prompts/list": {"prompts": self.offer.prompts},
        }

    def notify(self, method: str, params: bytes | Raw) -> None:
        self._log.note(f"notified of {method}")

    async def check(self, *, seconds: float) -> None:
        return

    async def quiet(self) -> None:
        await self._is_quiet.wait()

    async def stop(self, grace: float) -> None:
        self.kill("it was stopped")

    def kill(self, reason: str) -> None:
        if not self.gone.done():
            self.gone.set_result(reason)


class FakeEngine(HostedEngine):
    """`servers` holds those that run, by the name of their server; `failures` counts starts that will fail, `sleepers`
    names servers that never answer. `prepared` counts processes, `starts` those that were asked to serve, `dropped`
    those that never were.

    `offer` is what the next builds will find, or why they are refused; their artifacts are named by the digest of the
    upload and of the offer, and kept in `artifacts`. `builds` are those that were asked for. While `build_gate` is
    not set, builds stand still before their last stage; while `start_gate` is not, starts do.
    """

    def __init__(
        self,
        *,
        socket: Path,
        bearer: str,
        memory: int = GIB,
        rules: Rules = RULES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        instances = Instances(self._launch, memory=memory, rules=rules, clock=clock)
        super().__init__(instances, socket=socket, bearer=bearer)
        self.capabilities = SAFE
        self.servers: dict[str, FakeServer] = {}
        self.failures: dict[str, int] = {}
        self.sleepers: set[str] = set()
        self.starts = self.prepared = self.dropped = 0
        self.offer: BuildResult | Refused = OFFER
        self.builds: list[tuple[BuildSpec, bytes]] = []
        self.artifacts: dict[str, BuildResult] = {}
        self.build_gate = asyncio.Event()
        self.build_gate.set()
        self.start_gate = asyncio.Event()
        self.start_gate.set()

    async def probe(self) -> Capabilities:
        return self.capabilities

    async def _built(self, spec: BuildSpec, upload: bytes, heard: Heard) -> BuildResult:
        self.builds.append((spec, upload))
        for stage in _STAGES:
            if stage == "done":
                await self.build_gate.wait()
            heard(BuildEvent(stage, f"{stage} {spec.name}", time.time()))
            await asyncio.sleep(0)
        if isinstance(self.offer, Refused):
            raise self.offer
        digest = hashlib.sha256(upload + msgspec.json.encode(self.offer)).hexdigest()
        self.artifacts[digest] = msgspec.structs.replace(self.offer, digest=digest, size=len(upload))
        return self.artifacts[digest]

    def _offer_of(self, spec: RunSpec) -> BuildResult:
        """Raises `Missing`."""
        if spec.artifact:
            return OFFER
        try:
            return self.artifacts[spec.digest]
        except KeyError:
            raise Missing(
                f"The artifact {spec.digest[:12]} is not on this machine. Build it again."
            ) from None

    async def keep(self, digests: Iterable[str]) -> list[str]:
        """All but these go at once, since nothing here grows old."""
        unwanted = sorted(self.artifacts.keys() - {*digests, *self._instances.digests})
        for digest in unwanted:
            del self.artifacts[digest]
        return unwanted

    async def missing(self, digests: Iterable[str]) -> list[str]:
        return [digest for digest in digests if digest not in self.artifacts]

    async def stand_in(self, digest: str, by: str) -> None:
        if by not in self.artifacts:
            raise Missing(f"The artifact {by[:12]} is not on this machine. Build it again.")
        self.artifacts[digest] = self.artifacts[by]

    async def _launch(self, spec: RunSpec, name: str, log: Log) -> Prepared:
        await asyncio.sleep(0)
        return _Waiting(self, spec, log, self._offer_of(spec))


class _Waiting:
    """A server that was not asked anything yet (`connections.Prepared`)."""

    def __init__(self, engine: FakeEngine, spec: RunSpec, log: Log, offer: BuildResult) -> None:
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._engine, self._spec, self._log, self._offer = engine, spec, log, offer
        engine.prepared += 1

    async def open(self) -> Connection:
        engine, spec = self._engine, self._spec
        engine.starts += 1
        await engine.start_gate.wait()
        await asyncio.sleep(0)
        if spec.server in engine.sleepers:
            await self.gone
        if engine.failures.get(spec.server, 0) > 0:
            engine.failures[spec.server] -= 1
            raise Died(
                "The server's process is gone: told to fail.", reason="told to fail", log=self._log.tail()
            )
        self._log.note(f"{spec.server} runs")
        engine.servers[spec.server] = server = FakeServer(spec, self._log, self._offer)
        return server

    async def drop(self) -> None:
        if not self.gone.done():
            self.gone.set_result("it was dropped")
            self._engine.dropped += 1


def _greeting(era: Era, offer: BuildResult) -> dict[str, Any]:
    about = {
        "capabilities": {
            "tools": {},
            **({"resources": {}} if offer.resources or offer.resource_templates else {}),
            **({"prompts": {}} if offer.prompts else {}),
        },
        "serverInfo": {"name": offer.name, "version": offer.version},
    }
    if era == "handshake":
        return about | {"protocolVersion": NEWEST_HANDSHAKE}
    return about | {"resultType": "complete", "supportedVersions": [MODERN]}


def _result(result: dict[str, Any]) -> Answer:
    return Answer(result=Raw(msgspec.json.encode(result | {"resultType": "complete"})))
