"""Probes of the upstreams that published versions depend on, over the pools their calls take.

Each that is due is claimed by one gateway (`services.watching`), so more gateways do not mean more probes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from functools import partial

import structlog

from mooring.errors import Unavailable
from servers.models import UpstreamWatch
from servers.pipeline.database_thread import DatabaseThread
from servers.pipeline.parts import Runtimes
from servers.runtimes.base import Health
from servers.runtimes.code.health import Seen, health, look
from servers.runtimes.http import probing
from servers.runtimes.upstreams import Upstream
from servers.services.watching import Claimed, claim_due, record_probes

Found = tuple[UpstreamWatch, Health]
log = structlog.get_logger(__name__)
# Between two looks for what is due. Gateways that were started together do not look together for long.
PAUSE_SECONDS = (4.0, 6.0)
# What one round claims at most, and how many of those are asked at a time.
A_ROUND = 200
AT_ONCE = 50
PROBE_SECONDS = 5.0
DATABASE_SECONDS = 10.0
# An answer that takes longer is one that callers notice.
SLOW_MILLISECONDS = 2_000.0
# For how long failed calls say something of how an upstream is now.
RECENT_SECONDS = 300.0


class Watcher:
    """`run` it as a task; `close` it when that has ended."""

    def __init__(self, runtimes: Runtimes, *, pause: tuple[float, float] = PAUSE_SECONDS) -> None:
        self._runtimes = runtimes
        self._pause = pause
        self._database = DatabaseThread("watching", seconds=DATABASE_SECONDS)

    async def run(self) -> None:
        """Until it is cancelled. While the database is away nobody can be told, so nothing is probed."""
        while True:
            await asyncio.sleep(random.uniform(*self._pause))
            try:
                while await self.round():
                    pass  # more may be due
            except Unavailable as error:
                log.warning("upstreams.not_probed", reason=error.reason)
            except Exception:  # this loop outlives whatever goes wrong
                log.exception("upstreams.not_probed")

    async def round(self) -> int:
        """Probe what is due, and write down what was found. Returns how many. Raises `Unavailable`."""
        claimed = await self._database.ask(partial(claim_due, A_ROUND))
        room = asyncio.Semaphore(AT_ONCE)
        runner = await self._runner(claimed)
        found = await asyncio.gather(*[self._probed(one, room, runner) for one in claimed])
        if found:
            await self._database.ask(partial(record_probes, found))
        return len(claimed)

    async def _runner(self, claimed: Sequence[Claimed]) -> Seen | Health:
        """One look at it for the whole round; none when no code is among what is due."""
        code = self._runtimes.code
        if code is None or not any(one.digest for one in claimed):
            return Health("unknown", "Uploaded code is not run here.")
        return await look(code.runner, seconds=PROBE_SECONDS)

    async def _probed(self, claimed: Claimed, room: asyncio.Semaphore, runner: Seen | Health) -> Found:
        try:
            async with room:
                return claimed.watch, await self._health(claimed, runner)
        except Exception:  # what one upstream has brought us to must not keep the others from being probed
            log.exception("upstream.not_probed", watch=str(claimed.watch.id))
            return claimed.watch, Health("unhealthy", "It answered in a way that was not understood.")

    async def _health(self, claimed: Claimed, runner: Seen | Health) -> Health:
        if claimed.problem:
            return Health("degraded", claimed.problem, {"failure": "not_ready"})
        tenant = str(claimed.watch.tenant_id)
        if claimed.digest:
            return await self._health_of_code(claimed, runner)
        if claimed.endpoint is None:
            upstream = self._runtimes.upstreams.get(tenant, claimed.origin)
            return judged(await probing.probe(upstream, seconds=PROBE_SECONDS), upstream)
        client = self._runtimes.clients.get(tenant, claimed.endpoint)
        return judged(await client.probe(seconds=PROBE_SECONDS), client.upstream)

    async def _health_of_code(self, claimed: Claimed, runner: Seen | Health) -> Health:
        code = self._runtimes.code
        if isinstance(runner, Health):
            return runner
        assert code is not None  # it has told us what was seen
        watch = claimed.watch
        return await health(
            runner,
            code.runner,
            tenant=str(watch.tenant_id),
            server=str(watch.server_id),
            digest=claimed.digest,
            seconds=PROBE_SECONDS,
        )

    def close(self) -> None:
        """Blocks until its thread has closed its connection."""
        self._database.close()


def judged(health: Health, upstream: Upstream) -> Health:
    """One that is there and yet slow, or failed the last calls of it, is degraded; unhealthy once calls of it are
    refused because it failed again and again.
    """
    if health.state == "unhealthy":
        return health
    is_recent = time.monotonic() - upstream.used_at < RECENT_SECONDS
    # Half-open counts too: until a call of it has worked, nothing says that it works again.
    if is_recent and upstream.breaker.state != "closed":
        sentence = (
            "It is there, and yet it failed so many calls in a row that it is left alone for half a minute."
        )
        return Health("unhealthy", sentence, {**health.data, "failure": "upstream_unavailable"})
    if health.state == "degraded":
        return health
    milliseconds = float(health.data.get("milliseconds", 0.0))
    if milliseconds > SLOW_MILLISECONDS:
        return Health("degraded", f"It took {milliseconds / 1000:.1f} s to answer.", health.data)
    if is_recent and upstream.breaker.failures:
        return Health("degraded", "It is there, and yet the last calls of it failed.", health.data)
    return health
