"""A runner's engine with its socket, and MCP messages sent to what it gives.

Tests of the platform take the fixture `fake_runner`: the whole way to a runner, without root and without processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from servers.runner.client import SOCKET, TOKEN
from servers.runner.engine import GIB, Endpoint, Limits, RunSpec
from servers.runner.fake import FakeEngine
from servers.runner.hosted import HostedEngine
from servers.runner.instance import RULES, Rules
from servers.runner.local import LocalEngine, Settings
from servers.runner.serving import listening

BEARER = "bearer-of-a-test"
MODERN = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: Any
    headers: Any

    @property
    def text(self) -> str:
        """Of the first content block."""
        return str(self.body["result"]["content"][0]["text"])


async def post(endpoint: Endpoint, method: str, params: dict[str, Any] | None = None, **parts: Any) -> Reply:
    """One message; `number` is its id and `bearer` the one that is shown, unless they are given."""
    message = {"jsonrpc": "2.0", "id": parts.get("number", 1), "method": method, "params": params or {}}
    if message["id"] is None:
        del message["id"]
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(endpoint.socket)) as session,
        session.post(
            endpoint.url,
            data=parts.get("data", json.dumps(message)),
            headers={"Authorization": f"Bearer {parts.get('bearer', endpoint.bearer)}"},
        ) as response,
    ):
        raw = await response.read()
        is_json = response.content_type == "application/json"
        return Reply(response.status, json.loads(raw) if is_json and raw else raw.decode(), response.headers)


async def call(endpoint: Endpoint, tool: str, **arguments: Any) -> Reply:
    params = {"name": tool, "arguments": arguments, "_meta": ENVELOPE}
    return await post(endpoint, "tools/call", params)


def spec_of(artifact: Path, *entry: str, **changes: Any) -> RunSpec:
    given: dict[str, Any] = {
        "tenant": "acme",
        "server": "tools",
        "digest": "00000001",
        "artifact": str(artifact),
        "entry": entry or ("python3", "-I", "-S", "/app/server.py"),
        "limits": Limits(call=20),
    }
    return RunSpec(**given | changes)


@asynccontextmanager
async def local_engine(
    folder: Path, *, clock: Clock | None = None, rules: Rules = RULES, memory: int = 4 * GIB, **changes: Any
) -> AsyncIterator[LocalEngine]:
    settings = Settings(folder=folder, memory=memory, bearer=BEARER, **changes)
    engine = LocalEngine(settings, rules=rules, **({"clock": clock} if clock else {}))
    async with served(engine, folder):
        yield engine


@asynccontextmanager
async def fake_engine(
    folder: Path, *, clock: Clock | None = None, rules: Rules = RULES, memory: int = GIB
) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(
        socket=folder / SOCKET, bearer=BEARER, memory=memory, rules=rules, clock=clock or Clock()
    )
    async with served(engine, folder):
        yield engine


@dataclass(slots=True)
class FakeRunner:
    """A fake engine that is served from a thread of its own. `folder` is what `RunnerClient` wants."""

    folder: Path
    rules: Rules = RULES
    engine: FakeEngine = field(init=False)
    _ahead: float = 0.0
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _ending: asyncio.Event = field(init=False)
    _began: threading.Event = field(default_factory=threading.Event)

    def do(self, action: Callable[[FakeEngine], Any]) -> None:
        """In the engine's own thread, as whatever wakes its tasks has to be."""
        self._loop.call_soon_threadsafe(action, self.engine)

    def pass_(self, seconds: float) -> None:
        """Let so much time go by for the engine, which then does what is due."""
        done = threading.Event()

        def tend() -> None:
            self._ahead += seconds
            self.engine._instances.tend()
            done.set()

        self._loop.call_soon_threadsafe(tend)
        assert done.wait(10)

    def serve(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        self.engine = FakeEngine(
            socket=self.folder / SOCKET,
            bearer=BEARER,
            rules=self.rules,
            clock=lambda: time.monotonic() + self._ahead,
        )
        async with served(self.engine, self.folder):
            self._began.set()
            await self._ending.wait()

    def await_beginning(self) -> None:
        assert self._began.wait(10)

    def end(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._ending.set)


@contextmanager
def running_fake(folder: Path, rules: Rules = RULES) -> Iterator[FakeRunner]:
    """Ends as a runner ends that is stopped; another one may be started on the same folder."""
    runner = FakeRunner(folder, rules)
    thread = threading.Thread(target=runner.serve, name="fake-runner")
    thread.start()
    try:
        runner.await_beginning()
        yield runner
    finally:
        runner.end()
        thread.join(10)


@pytest.fixture
def fake_runner() -> Iterator[FakeRunner]:
    # Not tmp_path: the path of a socket may not be long.
    with tempfile.TemporaryDirectory(prefix="mooring-") as folder, running_fake(Path(folder)) as runner:
        yield runner


@asynccontextmanager
async def served(engine: HostedEngine, folder: Path) -> AsyncIterator[None]:
    (folder / TOKEN).write_text(BEARER)
    async with listening(engine, folder / SOCKET, bearer=BEARER):
        try:
            yield
        finally:
            await engine.close(0)
