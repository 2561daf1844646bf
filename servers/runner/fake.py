"""An engine without processes, for tests of the platform: the same life of instances, the same endpoints.

Its servers do what a test tells them: fail at their start, or die at any moment (`FakeServer.kill`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from servers.protocol.revisions import MODERN, NEWEST_HANDSHAKE
from servers.runner.engine import GIB, Capabilities, Era, RunSpec
from servers.runner.errors import Died, TimedOut
from servers.runner.hosted import HostedEngine
from servers.runner.instances import RULES, Connection, Instances, Rules
from servers.runner.logs import Log
from servers.runner.relay import Answer

_TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "sleep")]
SAFE = Capabilities(engine="fake", namespaces=True, system_calls=True, memory=True, own_user=True)


class FakeServer:
    """One running server (`instances.Connection`). Its tools are `echo`, and `sleep` for a number of seconds."""

    def __init__(self, spec: RunSpec, log: Log) -> None:
        self.era: Era = "handshake" if spec.era == "handshake" else "modern"
        self.greeting = Raw(msgspec.json.encode(_greeting(self.era)))
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.in_flight = 0
        self.unanswered_since: float | None = None
        self.list_changes = 0
        self._log = log
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()

    async def call(self, method: str, params: bytes | Raw, *, seconds: float) -> Answer:
        given = msgspec.json.decode(params)
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
        if method == "server/discover" and self.era == "modern":
            return Answer(result=self.greeting)
        if method == "tools/list":
            return _result({"tools": _TOOLS})
        if method == "tools/call" and given.get("name") in {"echo", "sleep"}:
            text = msgspec.json.encode(given.get("arguments", {})).decode()
            return _result({"content": [{"type": "text", "text": text}]})
        return Answer(error=Raw(msgspec.json.encode({"code": -32601, "message": f"No method {method}."})))

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
    """`servers` holds those that run, by the name of their server; `failures` counts starts that will fail."""

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
        self.starts = 0

    async def probe(self) -> Capabilities:
        return self.capabilities

    async def _launch(self, spec: RunSpec, name: str, log: Log) -> Connection:
        self.starts += 1
        await asyncio.sleep(0)
        if self.failures.get(spec.server, 0) > 0:
            self.failures[spec.server] -= 1
            raise Died("The server's process is gone: told to fail.", reason="told to fail", log=log.tail())
        log.note(f"{spec.server} runs")
        self.servers[spec.server] = server = FakeServer(spec, log)
        return server


def _greeting(era: Era) -> dict[str, Any]:
    about = {"capabilities": {"tools": {}}, "serverInfo": {"name": "fake", "version": "1"}}
    if era == "handshake":
        return about | {"protocolVersion": NEWEST_HANDSHAKE}
    return about | {"resultType": "complete", "supportedVersions": [MODERN]}


def _result(result: dict[str, Any]) -> Answer:
    return Answer(result=Raw(msgspec.json.encode(result | {"resultType": "complete"})))
