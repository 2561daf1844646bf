"""What the data plane knows: endpoints with their snapshots, and principals, kept in memory until they change.

Warm look-ups are dictionary reads on the event loop. A miss goes through one bounded, single-flight loader of
four threads; a change that arrives while a load runs makes that load run again, so nothing stale is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from mooring.errors import Unavailable
from servers.pipeline import loading
from servers.pipeline.loading import Change, ServerFacts
from servers.pipeline.principals import Principal
from servers.pipeline.snapshot import Snapshot, build
from servers.runtimes.upstreams import Upstreams
from tenants.keys import digest_of, is_well_formed

log = structlog.get_logger(__name__)

THREADS = 4
LOAD_SECONDS = 10.0
MAX_LOADS = 1_000
MISSING_SECONDS = 5.0
MAX_MISSING = 20_000
MAX_ENDPOINTS = 20_000
MAX_PRINCIPALS = 50_000
MAX_SESSIONS = 100_000

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Bounded map of loaded values; None is remembered as missing for five seconds."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: dict[K, V] = {}
        # Names that are missing, and until when that is believed. Apart, so that they displace nothing.
        self._missing: dict[K, float] = {}
        self._flights: dict[K, asyncio.Future[V | None]] = {}
        self._stale: set[K] = set()

    def peek(self, key: K) -> V | None:
        """What is kept, without loading; None also when that is not known."""
        return self._kept.get(key)

    async def get(self, key: K, load: Callable[[K], Awaitable[V | None]]) -> V | None:
        kept = self._kept.get(key)
        if kept is not None or self._missing.get(key, 0.0) > time.monotonic():
            return kept
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= MAX_LOADS:
                raise Unavailable(
                    "Too much is being loaded at once. Try again in a moment.", code="overloaded"
                )
            flight = asyncio.ensure_future(self._fly(key, load))
            self._flights[key] = flight
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                return await asyncio.shield(flight)
        except TimeoutError:
            raise Unavailable("Loading took too long. Try again in a moment.", code="loading") from None

    async def _fly(self, key: K, load: Callable[[K], Awaitable[V | None]]) -> V | None:
        try:
            while True:
                value = await load(key)
                if key not in self._stale:
                    break
                self._stale.discard(key)
            self._keep(key, value)
            return value
        finally:
            self._stale.discard(key)
            del self._flights[key]

    def _keep(self, key: K, value: V | None) -> None:
        if value is None:
            if len(self._missing) >= MAX_MISSING:
                self._missing.clear()
            self._missing[key] = time.monotonic() + MISSING_SECONDS
            return
        self._missing.pop(key, None)
        while len(self._kept) >= self._size:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = value

    def drop(self, is_touched: Callable[[K, V], bool]) -> None:
        for key in [key for key, value in self._kept.items() if is_touched(key, value)]:
            del self._kept[key]
        # A missing name may just have been made.
        self._missing.clear()
        # What is being loaded may have read the state before the change, and its value is not known yet.
        self._stale.update(self._flights)

    def forget(self, key: K) -> None:
        self._kept.pop(key, None)
        self._missing.pop(key, None)
        if key in self._flights:
            self._stale.add(key)


@dataclass(slots=True)
class Endpoint:
    """One server and the snapshots of it that were asked for, by selector."""

    facts: ServerFacts
    snapshots: Cache[str, Snapshot] = field(default_factory=lambda: Cache(64))


class Directory:
    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="loader")
        # Of its own, so that a flood of misses cannot delay a revocation.
        self._poller = ThreadPoolExecutor(1, thread_name_prefix="changes")
        self.endpoints: Cache[tuple[str, str], Endpoint] = Cache(MAX_ENDPOINTS)
        self.principals: Cache[str, Principal] = Cache(MAX_PRINCIPALS)
        self.passes: Cache[tuple[int, uuid.UUID], Principal] = Cache(MAX_PRINCIPALS)
        self.sessions: Cache[str, loading.SessionFacts] = Cache(MAX_SESSIONS)
        self._digests: dict[bytes, str] = {}
        self._salt = os.urandom(16)
        self._seen: int | None = None

    def close(self) -> None:
        """Blocks until the loader's threads have closed their database connections, at most two seconds."""
        meeting = threading.Barrier(THREADS)
        for _ in range(THREADS):
            self._threads.submit(loading.close_connections, meeting)
        self._threads.shutdown(wait=True)
        self._poller.submit(loading.close_connections, threading.Barrier(1))
        self._poller.shutdown(wait=True)

    async def in_thread(self, work: Callable[[], V]) -> V:
        return await asyncio.get_running_loop().run_in_executor(self._threads, loading.in_system_scope, work)

    async def _in_poller(self, work: Callable[[], V]) -> V:
        return await asyncio.get_running_loop().run_in_executor(self._poller, loading.in_system_scope, work)

    async def endpoint(self, tenant: str, server: str) -> Endpoint | None:
        return await self.endpoints.get((tenant, server), self._load_endpoint)

    async def _load_endpoint(self, key: tuple[str, str]) -> Endpoint | None:
        facts = await self.in_thread(lambda: loading.server_facts(*key))
        return None if facts is None else Endpoint(facts)

    async def snapshot(self, endpoint: Endpoint, selector: str) -> Snapshot | None:
        async def load(wanted: str) -> Snapshot | None:
            def work() -> Snapshot | None:
                material = loading.material(endpoint.facts, wanted)
                return None if material is None else build(material, self._upstreams)

            return await self.in_thread(work)

        return await endpoint.snapshots.get(selector, load)

    def digest_of(self, key: str) -> str | None:
        """The digest a well-formed key is kept under. Its HMAC is computed once per process, not per call."""
        short = hashlib.blake2b(key.encode(), digest_size=16, key=self._salt).digest()
        digest = self._digests.get(short)
        if digest is None and is_well_formed(key):
            if len(self._digests) >= MAX_PRINCIPALS:
                self._digests.clear()
            digest = self._digests[short] = digest_of(key)
        return digest

    async def principal_of_key(self, digest: str) -> Principal | None:
        return await self.principals.get(
            digest, lambda d: self.in_thread(lambda: loading.principal_of_key(d))
        )

    async def principal_of_pass(self, user: int, tenant: uuid.UUID) -> Principal | None:
        return await self.passes.get(
            (user, tenant), lambda key: self.in_thread(lambda: loading.principal_of_member(*key))
        )

    async def session(self, nonce: str) -> loading.SessionFacts:
        facts = await self.sessions.get(nonce, lambda n: self.in_thread(lambda: loading.session_facts(n)))
        return facts or loading.SessionFacts()

    # ---- changes ---------------------------------------------------------------------------------------------

    async def catch_up(self) -> None:
        """Read what changed since last time and drop what it touched. The first call only notes the head."""
        if self._seen is None:
            self._seen = await self._in_poller(loading.change_head)
            return
        seen = self._seen
        for change in await self._in_poller(lambda: loading.changes_since(seen)):
            self._apply(change)
            self._seen = change.number

    def _apply(self, change: Change) -> None:
        tenant = change.tenant
        if change.kind == "server":
            self.endpoints.drop(lambda _, endpoint: str(endpoint.facts.id) == change.ref)
        elif change.kind == "key":
            self.principals.forget(change.ref)
        elif change.kind == "session":
            self.sessions.forget(change.ref)
        elif change.kind == "member":
            self.principals.drop(lambda _, who: who.tenant == tenant and who.user == change.ref)
            self.passes.drop(lambda key, _: key[1] == tenant and str(key[0]) == change.ref)
        else:
            self.endpoints.drop(lambda _, endpoint: endpoint.facts.tenant == tenant)
            self.principals.drop(lambda _, who: who.tenant == tenant)
            self.passes.drop(lambda key, _: key[1] == tenant)
