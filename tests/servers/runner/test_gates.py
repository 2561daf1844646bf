"""How long a server of one tool takes to start, to answer and to be woken, and what fifty of them hold.

The bounds here are loose, since others may be busy on this machine. With MOORING_SOAK they are the ones promised, the
counts are whole, and `-s` shows the figures.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from servers.runner.engine import GIB, MIB, BuildResult, BuildSpec, Endpoint, Limits, RunSpec
from servers.runner.instance import Rules
from servers.runner.local import LocalEngine
from servers.runner.sandbox import cgroups, process
from servers.runner.sandbox.launcher import Plan, runtime_trees
from tests.runners import ENVELOPE, Clock, call, local_engine, spec_of
from tests.sandboxes import PYTHON, make_artifact

pytestmark = pytest.mark.asyncio(loop_scope="module")
IS_SOAK = bool(os.environ.get("MOORING_SOAK"))
# How many times longer than promised is no failure.
SLACK = 1.0 if IS_SOAK else 4.0
COLD_SECONDS, WARM_SECONDS, WOKEN_SECONDS = 2.5, 0.010, 0.300
WARM_SERVERS, WARM_BYTES = (50, 4 * GIB) if IS_SOAK else (5, 4 * GIB // 10)
# Of a core, of all that are warm together: what rounding leaves of nothing.
IDLE_SHARE = 0.01 * SLACK
SANDBOX_SECONDS = 0.050
SPINNERS = 10 if IS_SOAK else 3
ROUNDS = 10 if IS_SOAK else 3
CLOCK = Clock()
PROGRAM = b'''
from mcp.server.mcpserver import MCPServer

server = MCPServer("one")


@server.tool()
def double(number: int) -> int:
    """Twice as much."""
    return 2 * number
'''


@dataclass
class Stage:
    engine: LocalEngine
    result: BuildResult

    def spec(self, server: str = "one", tenant: str = "acme") -> RunSpec:
        return RunSpec(
            tenant=tenant, server=server, digest=self.result.digest, limits=Limits(idle=600, memory=128 * MIB)
        )

    async def timed(self, spec: RunSpec) -> tuple[float, Endpoint]:
        """Seconds until a call is answered by a server that may have to be started for it."""
        began = time.perf_counter()
        endpoint = await self.engine.ensure(spec)
        assert (await call(endpoint, "double", number=4)).text == "8"
        return time.perf_counter() - began, endpoint

    async def calls(self, endpoint: Endpoint, count: int) -> list[float]:
        """Seconds that calls over HTTP take."""
        taken = []
        connector = aiohttp.UnixConnector(endpoint.socket)
        headers = {"Authorization": f"Bearer {endpoint.bearer}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            for number in range(count):
                began = time.perf_counter()
                async with session.post(endpoint.url, json=asking(number)) as response:
                    assert (await response.json())["id"] == number
                taken.append(time.perf_counter() - began)
        show("warm call", taken)
        return taken

    async def evict(self) -> None:
        """Until what is idle is gone, and what waits instead has read all it can."""
        CLOCK.pass_(600)
        await self.engine.reconcile()
        spares = self.engine._instances._spares
        async with asyncio.timeout(60):
            while not (len(spares) and await self._is_still()):
                await asyncio.sleep(0.05)

    async def _is_still(self) -> bool:
        before, names = self._used(), self.engine._limiter.names()
        await asyncio.sleep(0.3)
        return self.engine._limiter.names() == names and self._used() - before < 0.005

    def _used(self) -> float:
        """Seconds of processor time that all sandboxes have taken."""
        limiter = self.engine._limiter
        return sum(limiter.usage(name).cpu for name in limiter.names())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(workshop: Path) -> AsyncIterator[Stage]:
    folder = workshop / "g"
    folder.mkdir(mode=0o711)
    async with local_engine(folder, clock=CLOCK, rules=Rules(per_tenant=100), memory=16 * GIB) as engine:
        spec = BuildSpec(name="one.py", when=datetime.now(UTC))
        yield Stage(engine, await engine.build(spec, PROGRAM))


def asking(number: int) -> dict[str, Any]:
    params = {"name": "double", "arguments": {"number": number}, "_meta": ENVELOPE}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def say(text: str) -> None:
    sys.stdout.write(f"\n{text}")


def show(what: str, seconds: list[float]) -> float:
    median = statistics.median(seconds)
    say(f"{what}: median {median * 1000:.1f} ms, {min(seconds) * 1000:.1f} to {max(seconds) * 1000:.1f} ms")
    return median


def p95_of(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1]


async def test_a_cold_start_and_the_first_answer(stage: Stage) -> None:
    taken = []
    for _ in range(ROUNDS):
        seconds, endpoint = await stage.timed(stage.spec())
        taken.append(seconds)
        await stage.engine.stop(endpoint.instance)
    assert show("cold start", taken) < COLD_SECONDS * SLACK


async def test_an_answer_of_a_warm_server(stage: Stage) -> None:
    _, endpoint = await stage.timed(stage.spec())
    connection = await stage.engine.connected(endpoint.instance)
    taken = []
    for _ in range(100 * ROUNDS):
        began = time.perf_counter()
        await connection.check(seconds=10)
        taken.append(time.perf_counter() - began)
    show("warm check, without HTTP", taken)
    p95 = p95_of(await stage.calls(endpoint, 100 * ROUNDS))
    say(f"warm p95: {p95 * 1000:.1f} ms")
    assert p95 < WARM_SECONDS * SLACK


async def test_a_tenant_that_spins_does_not_slow_the_servers_of_another(stage: Stage, workshop: Path) -> None:
    _, endpoint = await stage.timed(stage.spec())
    artifact = make_artifact(workshop / "spinner", "server.py")
    names = [f"spinner{number}" for number in range(SPINNERS)]
    alone = await stage.calls(endpoint, 100 * ROUNDS)
    spinning = [await stage.engine.ensure(spec_of(artifact, tenant="evil", server=name)) for name in names]
    # Whoever spins slows down the tenant's own: the later of them may not get to say so.
    statuses = [reply.status for reply in await asyncio.gather(*(call(each, "spin") for each in spinning))]
    assert statuses.count(200) >= 3, statuses
    beside = await stage.calls(endpoint, 100 * ROUNDS)
    for each in spinning:
        await stage.engine.stop(each.instance)
    alone += await stage.calls(endpoint, 100 * ROUNDS)
    say(
        f"p95 alone {p95_of(alone) * 1000:.1f} ms, beside {SPINNERS} that spin {p95_of(beside) * 1000:.1f} ms"
    )
    # Where others are busy too, a twentieth of all calls is theirs to delay.
    of = p95_of if IS_SOAK else statistics.median
    assert of(beside) < 2 * SLACK * of(alone)


async def test_a_server_that_was_evicted_is_woken_from_a_process_that_waits(stage: Stage) -> None:
    taken = []
    for _ in range(ROUNDS):
        _, endpoint = await stage.timed(stage.spec())
        await stage.evict()
        seconds, _ = await stage.timed(stage.spec())
        taken.append(seconds)
    assert show("woken", taken) < WOKEN_SECONDS * SLACK
    await stage.engine.stop(endpoint.instance)


async def test_what_a_sandbox_adds_to_a_start(workshop: Path, sandboxes: None) -> None:
    """The same program, which says a word and ends, by itself and in a sandbox."""
    limiter = cgroups.find(f"mooring-gates-{os.getpid()}")
    program = (PYTHON, "-I", "-S", "-c", "print('up')")
    plan = Plan(program, Limits(), runtime_trees(Path(PYTHON).resolve()))

    async def in_a_sandbox() -> None:
        sandbox = await process.start(plan, name="overhead", limiter=limiter, user=265_200)
        assert await first_line(sandbox.process) == b"up\n"
        await sandbox.remove()

    async def by_itself() -> None:
        alone = await asyncio.create_subprocess_exec(*program, stdout=subprocess.PIPE)
        assert await first_line(alone) == b"up\n"
        await alone.wait()

    try:
        taken: dict[str, list[float]] = {"bare": [], "sandboxed": []}
        for _ in range(5 * ROUNDS):
            for name, start in (("bare", by_itself), ("sandboxed", in_a_sandbox)):
                began = time.perf_counter()
                await start()
                taken[name].append(time.perf_counter() - began)
    finally:
        limiter.close()
    bare, sandboxed = (show(f"start, {name}", seconds) for name, seconds in taken.items())
    assert sandboxed - bare < SANDBOX_SECONDS * SLACK


async def first_line(child: asyncio.subprocess.Process) -> bytes:
    assert child.stdout is not None
    return await child.stdout.readline()


async def test_what_many_warm_servers_hold(stage: Stage) -> None:
    names = [f"s{number}" for number in range(WARM_SERVERS)]
    for some in (names[begin : begin + 10] for begin in range(0, len(names), 10)):
        await asyncio.gather(*(stage.timed(stage.spec(name)) for name in some))
    limiter = stage.engine._limiter
    held = sum(limiter.usage(name).memory for name in limiter.names())
    say(f"{WARM_SERVERS} warm servers: {held / MIB:.0f} MiB, {held / MIB / WARM_SERVERS:.0f} MiB each")
    before, began = stage._used(), time.perf_counter()
    await asyncio.sleep(1)
    idle = (stage._used() - before) / (time.perf_counter() - began)
    say(f"{WARM_SERVERS} idle servers: {idle * 100:.2f} % of a core")
    assert idle < IDLE_SHARE
    assert held <= WARM_BYTES
    for info in await stage.engine.instances():
        await stage.engine.stop(info.instance)
