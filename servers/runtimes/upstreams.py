"""What runtimes talk to: one `Upstream` a tenant and origin, with connections, limit, breaker and health."""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from weakref import WeakValueDictionary

import aiohttp

from servers.runtimes.alarms import TimeLimit
from servers.runtimes.base import Health
from servers.runtimes.breaker import Breaker, Pass, Verdict

CONCURRENT_CALLS = 32
# Calls that may wait for room, four for each that runs. More would only wait to be too late.
QUEUED_CALLS = 128
# Of its time, what a call may wait for room: who waits longer is let in too late to be answered, and the upstream works
# for nobody. Where that is very little, a moment all the same.
WAITING_SHARE = 0.1
LEAST_WAITING_SECONDS = 0.1
# When to try again where so many wait: about as long as a queue takes to move on.
BUSY_SECONDS = 1.0
IDLE_SECONDS = 300.0
# Retries may add a tenth to the calls; a short burst is saved up, more would be a retry storm.
RETRY_SHARE = 0.1
RETRIES_SAVED = 10.0
# Before the second try: anything up to this, so that those who failed together do not come again together.
RETRY_SECONDS = 0.1

SessionFactory = Callable[[], aiohttp.ClientSession]


class Unavailable(Exception):
    """Nothing was sent: the upstream failed again and again and is left alone for a while.

    `failure` and the sentence are for the caller, for whom trying again is worth while after `retry_after` seconds.
    """

    failure = "upstream_unavailable"

    def __init__(self, seconds: float) -> None:
        self.retry_after = max(1, math.ceil(seconds))
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        return f"The upstream failed several times in a row. Try again in {self.retry_after} s."


class Busy(Unavailable):
    """Nothing was sent: as many calls run and wait as may, or this one has waited as long as it may."""

    failure = "upstream_busy"

    def __init__(self) -> None:
        super().__init__(BUSY_SECONDS)

    def _sentence(self) -> str:
        return f"The upstream has more calls waiting than it gets done. Try again in {self.retry_after} s."


class Upstream:
    """Outlives a publish: bindings hold it, and `Upstreams` hands the same one to the next version's."""

    def __init__(self, tenant: str, origin: str, owner: Upstreams, *, concurrency: int, queue: int) -> None:
        self.tenant = tenant
        self.origin = origin
        self.breaker = Breaker()
        self._owner = owner
        self._room = asyncio.Semaphore(concurrency)
        self._queue = queue
        self._session: aiohttp.ClientSession | None = None
        self._retries = 1.0
        self.in_flight = 0
        self.waiting = 0
        # Probes pass by the limit, but the connections they use must not be taken from them as idle.
        self.probing = 0
        self.used_at = time.monotonic()

    @property
    def session(self) -> aiohttp.ClientSession:
        """Opened on first use and again after an idle spell; needs the running loop."""
        if self._session is None:
            self._session = self._owner.open(self)
        return self._session

    @property
    def is_idle(self) -> bool:
        return self.in_flight == 0 and self.waiting == 0 and self.probing == 0

    def visit(self, seconds: float = 30.0) -> Visit:
        """`async with upstream.visit(seconds) as visit:` one admitted call, which has so much time.

        Raises Unavailable on entering, Busy among it.
        """
        return Visit(self, seconds)

    async def enter(self, seconds: float = 30.0) -> Pass:
        """Wait for room, a tenth of the time at most. Raise Unavailable while the breaker is open, Busy when too many
        wait already or the wait was too long.
        """
        if self._room.locked():
            await self._wait(max(seconds * WAITING_SHARE, LEAST_WAITING_SECONDS))
        else:
            await self._room.acquire()  # at once, without giving way to others
        admitted = self.breaker.admit()
        if admitted is None:
            self._room.release()
            raise Unavailable(self.breaker.seconds_left)
        self.in_flight += 1
        if self._retries < RETRIES_SAVED:
            self._retries += RETRY_SHARE
        return admitted

    async def _wait(self, seconds: float) -> None:
        if self.breaker.refuses():
            raise Unavailable(self.breaker.seconds_left)
        if self.waiting >= self._queue:
            raise Busy
        self.waiting += 1
        try:
            with TimeLimit(asyncio.get_running_loop().time() + seconds):
                await self._room.acquire()
        except TimeoutError:
            raise Busy from None
        finally:
            self.waiting -= 1

    def leave(self, admitted: Pass, verdict: Verdict) -> None:
        self.in_flight -= 1
        self.used_at = time.monotonic()
        self._room.release()
        self.breaker.settle(admitted, verdict)

    def take_retry(self) -> bool:
        """Whether a call may be tried once more; counts it."""
        if self._retries < 1:
            return False
        self._retries -= 1
        return True

    def health(self) -> Health:
        state, failures = self.breaker.state, self.breaker.failures
        data = {"breaker": state, "failures": failures, "in_flight": self.in_flight, "waiting": self.waiting}
        if state == "open":
            return Health(
                "unhealthy", "It failed several times in a row and is left alone for half a minute.", data
            )
        if state == "half-open" or failures:
            return Health("degraded", "Its last calls failed.", data)
        return Health("healthy", "", data)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class Visit:
    """One call's stay at an upstream. Set `verdict` before leaving; unset, the breaker learns nothing.

    Not `is_admitted`, it has been waiting only: whatever went wrong, the upstream was not asked.
    """

    __slots__ = ("_admitted", "_seconds", "_upstream", "is_admitted", "verdict")

    def __init__(self, upstream: Upstream, seconds: float) -> None:
        self._upstream = upstream
        self._seconds = seconds
        self._admitted = Pass.NORMAL
        self.is_admitted = False
        self.verdict = Verdict.UNKNOWN

    async def __aenter__(self) -> Visit:
        self._admitted = await self._upstream.enter(self._seconds)
        self.is_admitted = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._upstream.leave(self._admitted, self.verdict)

    def take_retry(self) -> bool:
        """A probe is never repeated: exactly one request may reach an upstream that is being tried."""
        return self._admitted is Pass.NORMAL and self._upstream.take_retry()

    async def pause(self) -> None:
        """Before a second try."""
        await asyncio.sleep(random.uniform(0.0, RETRY_SECONDS))


class Upstreams:
    """All upstreams of a process. `get` may be called from any thread; the rest belongs to the event loop.

    `session_factory` makes a guarded session on the running loop. Each upstream has one of its own, so that
    no two tenants ever share a connection.
    """

    def __init__(
        self,
        session_factory: SessionFactory,
        *,
        concurrency: int = CONCURRENT_CALLS,
        queue: int = QUEUED_CALLS,
    ) -> None:
        """Of each upstream: how many calls run at once, and how many more may wait for that."""
        self._session_factory = session_factory
        self._concurrency = concurrency
        self._queue = queue
        self._lock = threading.Lock()
        # Weak: an upstream lives as long as a binding or an open session of it.
        self._known: WeakValueDictionary[tuple[str, str], Upstream] = WeakValueDictionary()
        self._opened: set[Upstream] = set()

    def get(self, tenant: str, origin: str) -> Upstream:
        with self._lock:
            upstream = self._known.get((tenant, origin))
            if upstream is None:
                upstream = Upstream(tenant, origin, self, concurrency=self._concurrency, queue=self._queue)
                self._known[tenant, origin] = upstream
            return upstream

    def open(self, upstream: Upstream) -> aiohttp.ClientSession:
        session = self._session_factory()
        self._opened.add(upstream)
        return session

    async def close_idle(self, seconds: float = IDLE_SECONDS) -> None:
        """Close the connections of upstreams unused for so long. To be called every minute or so."""
        before = time.monotonic() - seconds
        for upstream in list(self._opened):
            # Looked at only now: the one before took its time to close.
            if upstream.is_idle and upstream.used_at <= before:
                self._opened.discard(upstream)
                await upstream.close()

    async def close(self) -> None:
        """Close all connections; a call in flight fails."""
        while self._opened:
            await self._opened.pop().close()

    def health(self) -> dict[tuple[str, str], Health]:
        """By tenant and origin."""
        with self._lock:
            known = list(self._known.values())
        return {(upstream.tenant, upstream.origin): upstream.health() for upstream in known}
