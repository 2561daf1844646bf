"""Retry storms: however many callers come, and come again, as much is answered as the upstream can answer."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING

from aiohttp import web

from mooring.egress.guard import Guard
from mooring.egress.session import session
from servers.runtimes.base import ToolBinding, ToolCall
from servers.runtimes.http.tool import compile_tool
from servers.runtimes.upstreams import CONCURRENT_CALLS, QUEUED_CALLS, Upstreams

if TYPE_CHECKING:
    from tests.servers.runtimes.conftest import Origin

IS_SOAK = bool(os.environ.get("MOORING_SOAK"))
# How many calls run and wait, how long an answer takes, and how long callers come.
CONCURRENCY, QUEUE, ANSWER_SECONDS, SECONDS = (
    (CONCURRENT_CALLS, QUEUED_CALLS, 1.0, 30.0)
    if IS_SOAK
    else (CONCURRENT_CALLS // 8, QUEUED_CALLS // 8, 0.2, 2.0)
)
# Of the most that was answered at any load. A collapse is far below either; a busy machine is not.
SHARE = 0.9 if IS_SOAK else 0.5
LOADS = (1, 2, 5, 10)
# What a call has, which is as long as the whole queue would take, and how often its caller tries.
TIME, TRIES = 5 * ANSWER_SECONDS, 3


async def test_a_storm_of_retries_takes_nothing_from_what_is_answered(origin: Origin) -> None:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(ANSWER_SECONDS)
        return web.json_response(True)

    origin.answer = answer
    guard = Guard(allow=["127.0.0.0/8"])
    upstreams = Upstreams(lambda: session(guard), concurrency=CONCURRENCY, queue=QUEUE)
    definition = {"method": "GET", "url": f"{origin.url}/x", "timeout_seconds": TIME}
    # A tenant each, so that each load has the upstream's limits for itself.
    tools = {
        load: compile_tool(definition, variables={}, secrets={}, upstreams=upstreams, tenant=str(load))
        for load in LOADS
    }
    counts = await asyncio.gather(*[answered(tool, load) for load, tool in tools.items()])
    assert all(count >= SHARE * max(counts) for count in counts[1:]), counts
    for health in upstreams.health().values():
        assert (health.state, health.data["in_flight"], health.data["waiting"]) == ("healthy", 0, 0)
    await upstreams.close()


async def answered(tool: ToolBinding, load: int) -> int:
    """How many calls are, while `load` times as many callers come as can be served, at random."""
    loop, chance, good = asyncio.get_running_loop(), random.Random(load), 0
    comes = loop.time()
    until = comes + SECONDS

    async def caller() -> None:
        """Tries again soon after a failure, whatever it was told."""
        nonlocal good
        for _ in range(TRIES):
            outcome = await tool.call(ToolCall({}, loop.time() + TIME, 1_000))
            if not outcome.is_error:
                good += loop.time() <= until
                return
            await asyncio.sleep(chance.random() * ANSWER_SECONDS)

    callers = []
    while (comes := comes + chance.expovariate(load * CONCURRENCY / ANSWER_SECONDS)) < until:
        await asyncio.sleep(comes - loop.time())
        callers.append(asyncio.create_task(caller()))
    await asyncio.gather(*callers)
    return good
