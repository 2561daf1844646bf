"""What the data plane knows: endpoints with their snapshots, and principals, kept in memory until they change.

Warm look-ups are dictionary reads on the event loop. A miss goes through one bounded, single-flight loader of
four threads, which hangs up on a database that says nothing; a change that touches what is being loaded makes that
load run again, so nothing stale is kept.
While changes cannot be read, credentials are trusted for half a minute and no longer.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import structlog

from mooring.errors import Unavailable
from servers.pipeline import loading
from servers.pipeline.database_thread import DatabaseThread, DatabaseThreads
from servers.pipeline.loading import Change, ServerFacts
from servers.pipeline.parts import Runtimes
from servers.pipeline.principals import Principal
from servers.pipeline.snapshot import Snapshot, build
from servers.pipeline.succession import Successions
from tenants.keys import digest_of, is_well_formed
from tenants.quotas import Rate

log = structlog.get_logger(__name__)

THREADS = 4
# What a load may take in all, and what of that in the database once it is its turn.
LOAD_SECONDS = 10.0
ASK_SECONDS = 4.0
MAX_LOADS = 1_000
# What changes while it is loaded, time after time, is given up instead of loaded for ever.
MAX_RUNS = 5
MISSING_SECONDS = 5.0
MAX_MISSING = 20_000
MAX_SNAPSHOTS = 64
MAX_ENDPOINTS = 20_000
MAX_PRINCIPALS = 50_000
MAX_SESSIONS = 100_000
# The database itself gives up on a poll after `loading.STATEMENT_SECONDS`; one that says nothing is hung up on.
POLL_SECONDS = 4.0
# How long a revoked key may go on working at most, when nobody can tell us that it was revoked.
TRUST_SECONDS = 30.0

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Flight(NamedTuple, Generic[K, V]):
    """A load that is under way, and the drops since it began: each says whether it touches what was loaded."""

    landing: asyncio.Future[V | None]
    drops: list[Callable[[K, V | None], bool]]


class Cache(Generic[K, V]):
    """Bounded map of loaded values. What is missing is remembered as that for five seconds.

    None is missing, and so is a value that `is_absent` says is none. When there is no more room, the value that
    was not asked for the longest goes. Values are found by their `family` too, so that a change need not look at
    everybody's.
    """

    def __init__(
        self,
        size: int,
        *,
        missing: int = MAX_MISSING,
        is_absent: Callable[[V], bool] = lambda _: False,
        family: Callable[[K, V], Hashable] = lambda _key, _value: None,
    ) -> None:
        self._size = size
        self._max_missing = missing
        self._is_absent = is_absent
        self._family = family
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._families: dict[Hashable, set[K]] = {}
        # Half full: from here on the order of use is kept, which makes a look-up an eighth of a microsecond slower.
        self._is_crowded = False
        # Names that are missing, until when that is believed, and what was loaded. Apart: they displace nothing.
        self._missing: OrderedDict[K, tuple[float, V | None]] = OrderedDict()
        self._flights: dict[K, _Flight[K, V]] = {}

    def peek(self, key: K) -> V | None:
        """What is kept, without loading; None also when that is not known."""
        kept = self._kept.get(key)
        if self._is_crowded and kept is not None:
            self._kept.move_to_end(key)
        return kept

    async def get(self, key: K, load: Callable[[K], Awaitable[V | None]]) -> V | None:
        """What is kept, else what `load` gives. Raises `Unavailable` when it is too much or takes too long."""
        kept = self.peek(key)
        if kept is not None:
            return kept
        until, missing = self._missing.get(key, (0.0, None))
        if until > time.monotonic():
            return missing
        flight = self._flights.get(key) or self._begin(key, load)
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                return await asyncio.shield(flight.landing)
        except TimeoutError:
            raise Unavailable("Loading took too long. Try again in a moment.", code="loading") from None

    def _begin(self, key: K, load: Callable[[K], Awaitable[V | None]]) -> _Flight[K, V]:
        if len(self._flights) >= MAX_LOADS:
            raise Unavailable("Too much is being loaded at once. Try again in a moment.", code="overloaded")
        drops: list[Callable[[K, V | None], bool]] = []
        flight = self._flights[key] = _Flight(asyncio.ensure_future(self._fly(key, load, drops)), drops)
        return flight

    async def _fly(
        self, key: K, load: Callable[[K], Awaitable[V | None]], drops: list[Callable[[K, V | None], bool]]
    ) -> V | None:
        try:
            for _ in range(MAX_RUNS):
                drops.clear()
                value = await load(key)
                if not any(is_touched(key, value) for is_touched in drops):
                    self._keep(key, value)
                    return value
            raise Unavailable("This changes faster than it loads. Try again in a moment.", code="loading")
        finally:
            del self._flights[key]

    def _keep(self, key: K, value: V | None) -> None:
        if value is None or self._is_absent(value):
            while len(self._missing) >= self._max_missing:
                self._missing.popitem(last=False)
            self._missing[key] = (time.monotonic() + MISSING_SECONDS, value)
            self._missing.move_to_end(key)
            return
        self._missing.pop(key, None)
        while len(self._kept) >= self._size:
            self._remove(next(iter(self._kept)))
        self._remove(key)
        self._kept[key] = value
        self._families.setdefault(self._family(key, value), set()).add(key)
        self._is_crowded = len(self._kept) * 2 > self._size

    def _remove(self, key: K) -> None:
        value = self._kept.pop(key, None)
        if value is None:
            return
        family = self._family(key, value)
        self._families[family].discard(key)
        if not self._families[family]:
            del self._families[family]

    def relatives(self, family: Hashable) -> list[tuple[K, V]]:
        """What is kept of a family, without counting as use."""
        return [(key, self._kept[key]) for key in self._families.get(family, ())]

    def drop(
        self, is_touched: Callable[[K, V | None], bool], *, families: Iterable[Hashable] = (None,)
    ) -> None:
        """Forget what is touched: values of the families, names that are missing (None), what is being loaded."""
        for family in families:
            for key, value in self.relatives(family):
                if is_touched(key, value):
                    self._remove(key)
        for key in [key for key, (_, value) in self._missing.items() if is_touched(key, value)]:
            del self._missing[key]
        # What is being loaded may be from before the change; whether it is touched shows when it is there.
        for flight in self._flights.values():
            flight.drops.append(is_touched)

    def forget(self, key: K) -> None:
        self._remove(key)
        self._missing.pop(key, None)
        flight = self._flights.get(key)
        if flight is not None:
            flight.drops.append(_anything)

    def replace(self, old: V, new: V, *, key: K) -> None:
        """Keep `new` where `old` is kept still."""
        if self._kept.get(key) is old:
            self._keep(key, new)

    def clear(self) -> None:
        self.drop(_anything, families=list(self._families))


def _anything(_key: Hashable, _value: object) -> bool:
    return True


@dataclass(slots=True)
class Endpoint:
    """One server and the snapshots of it that were asked for, by selector.

    `ids` are the tenant's and the server's, as the call log has them; `rates` are those of callers, by their key.
    """

    facts: ServerFacts
    snapshots: Cache[str, Snapshot] = field(default_factory=lambda: Cache(MAX_SNAPSHOTS, missing=1_000))
    rates: dict[str, tuple[Rate, Rate]] = field(default_factory=dict)
    ids: tuple[bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = (self.facts.tenant.bytes, self.facts.id.bytes)


class Directory:
    """Call `start` once, then `catch_up` again and again. A poll is given `poll_seconds` to answer."""

    def __init__(
        self, runtimes: Runtimes, *, poll_seconds: float = POLL_SECONDS, ask_seconds: float = ASK_SECONDS
    ) -> None:
        self._runtimes = runtimes
        self._loader = DatabaseThreads("loader", threads=THREADS, seconds=ask_seconds)
        # Apart: making a large version ready takes its time, and no database should wait for that.
        self._builder = ThreadPoolExecutor(THREADS, thread_name_prefix="builder")
        # Of its own, so that a flood of misses cannot delay a revocation.
        self._poller = DatabaseThread("changes", seconds=poll_seconds)
        self._ask = self._poller.ask
        self.endpoints: Cache[tuple[str, str], Endpoint] = Cache(MAX_ENDPOINTS, family=lambda key, _: key[0])
        self.principals: Cache[str, Principal] = Cache(
            MAX_PRINCIPALS, is_absent=lambda who: who.is_barred, family=lambda _, who: who.tenant
        )
        self.passes: Cache[tuple[int, uuid.UUID], Principal] = Cache(
            MAX_PRINCIPALS, missing=1_000, family=lambda key, _: key[1]
        )
        self.sessions: Cache[str, loading.SessionFacts] = Cache(MAX_SESSIONS)
        self.successions = Successions()
        self._digests: dict[bytes, str] = {}
        self._salt = os.urandom(16)
        self._catching_up = asyncio.Lock()
        self._seen = 0
        self._seen_at = 0.0
        self._fuse: asyncio.TimerHandle | None = None
        self._is_blind = False

    async def start(self) -> None:
        """Note where the changes stand. Raises `Unavailable` without a database."""
        global _running
        began = time.monotonic()
        self._seen = await self._ask(loading.change_head)
        self._trust_since(began)
        _running = self

    def close(self) -> None:
        """Blocks until the threads have closed their database connections, at most two seconds each way.

        The loop that `start` ran on has to have stopped polling.
        """
        global _running
        if _running is self:
            _running = None
        if self._fuse is not None:
            self._fuse.cancel()
        self._poller.cut()
        self._loader.close()
        self._builder.shutdown(wait=True)
        self._poller.close()

    async def in_thread(self, work: Callable[[], V]) -> V:
        """Raises `Unavailable` when the database is away or says nothing for too long, or no thread is free to ask."""
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                return await self._loader.ask(work)
        except TimeoutError:
            raise Unavailable("The database does not answer.", code="database_unavailable") from None

    async def endpoint(self, tenant: str, server: str) -> Endpoint | None:
        return await self.endpoints.get((tenant, server), self._load_endpoint)

    async def _load_endpoint(self, key: tuple[str, str]) -> Endpoint | None:
        facts = await self.in_thread(lambda: loading.server_facts(*key))
        return None if facts is None else Endpoint(facts)

    async def snapshot(self, endpoint: Endpoint, selector: str) -> Snapshot | None:
        async def load(wanted: str) -> Snapshot | None:
            material = await self.in_thread(lambda: loading.material(endpoint.facts, wanted))
            if material is None:
                return None
            loop = asyncio.get_running_loop()
            made = await loop.run_in_executor(self._builder, build, material, self._runtimes)
            return self.successions.served(wanted, made, partial(endpoint.snapshots.replace, key=wanted))

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
        """None for a key that never was; a principal that `is_barred` for one that is no longer good.

        Raises `Unavailable` while changes cannot be read.
        """
        return await self.principals.get(digest, lambda d: self._trusted(lambda: loading.principal_of_key(d)))

    async def principal_of_pass(self, user: int, tenant: uuid.UUID) -> Principal | None:
        return await self.passes.get(
            (user, tenant), lambda key: self._trusted(lambda: loading.principal_of_member(*key))
        )

    async def _trusted(self, load: Callable[[], Principal | None]) -> Principal | None:
        """A credential is kept until a change says otherwise, so there is none while no change can say so."""
        self._refuse_blindly()
        principal = await self.in_thread(load)
        self._refuse_blindly()
        return principal

    def _refuse_blindly(self) -> None:
        if self._is_blind:
            raise Unavailable(
                "Whether this credential was revoked cannot be told at the moment. Try again soon.",
                code="changes_unavailable",
            )

    async def session(self, nonce: str) -> loading.SessionFacts:
        facts = await self.sessions.get(nonce, lambda n: self.in_thread(lambda: loading.session_facts(n)))
        return facts or loading.SessionFacts()

    @property
    def uses_code(self) -> bool:
        """Whether anything that is kept here is uploaded code."""
        return bool(self._runtimes.code)

    # ---- changes ---------------------------------------------------------------------------------------------

    @property
    def blind_for(self) -> float:
        """Seconds since the state that is known here was the state of the database."""
        return time.monotonic() - self._seen_at

    @property
    def is_blind(self) -> bool:
        """Changes could not be read for so long that no credential is taken."""
        return self._is_blind

    async def catch_up(self) -> None:
        """Read what changed since last time and drop what it touched.

        Raises `Unavailable` when the database does not tell in time.
        """
        async with self._catching_up:
            is_all = False
            while not is_all:
                began, seen = time.monotonic(), self._seen
                changes = await self._ask(partial(loading.changes_since, seen))
                self._apply(changes)
                self._seen = changes[-1].number if changes else seen
                is_all = len(changes) < loading.PAGE
            self._trust_since(began)

    def _trust_since(self, moment: float) -> None:
        """What was true at `moment`, of the monotonic clock, is known here. Without news the fuse burns down."""
        self._seen_at = moment
        self._is_blind = False
        if self._fuse is not None:
            self._fuse.cancel()
        self._fuse = asyncio.get_running_loop().call_later(
            TRUST_SECONDS - (time.monotonic() - moment), self._distrust
        )

    def _distrust(self) -> None:
        """Warm calls look into these two first, so forgetting is what stops them, and costs them nothing before."""
        log.error("changes.too_old", seconds=round(self.blind_for, 1))
        self._is_blind = True
        self.principals.clear()
        self.passes.clear()

    def _apply(self, changes: Collection[Change]) -> None:
        for change in changes:
            if change.kind == "key":
                self.principals.forget(change.ref)
            elif change.kind == "session":
                self.sessions.forget(change.ref)
        self._drop_endpoints(
            [change for change in changes if change.kind not in {"key", "session", "member"}]
        )
        self._drop_people([change for change in changes if change.kind not in {"key", "session", "server"}])

    def _drop_endpoints(self, changes: Collection[Change]) -> None:
        slugs = {change.slug for change in changes}
        servers = {change.ref for change in changes if change.kind == "server"}
        tenants = {change.slug for change in changes if change.kind != "server"}

        def is_touched(key: tuple[str, str], endpoint: Endpoint | None) -> bool:
            if key[0] not in slugs:
                return False
            # A name that is missing may just have been made.
            return endpoint is None or key[0] in tenants or str(endpoint.facts.id) in servers

        if slugs:
            for slug in slugs:
                for key, endpoint in self.endpoints.relatives(slug):
                    if is_touched(key, endpoint):
                        self._note_replaced(endpoint, _anything)
            self.endpoints.drop(is_touched, families=slugs)
            self._drop_compositions(slugs, servers)

    def _note_replaced(self, endpoint: Endpoint, is_touched: Callable[[str, Snapshot | None], bool]) -> None:
        for selector, snapshot in endpoint.snapshots.relatives(None):
            if is_touched(selector, snapshot):
                self.successions.note(selector, snapshot)

    def _drop_compositions(self, tenants: Collection[str], servers: Collection[str]) -> None:
        """Servers that are made of one that changed, or of one that may just have been made."""

        def is_touched(_selector: str, snapshot: Snapshot | None) -> bool:
            return snapshot is None or snapshot.may_gain or not snapshot.members.isdisjoint(servers)

        for tenant in tenants:
            for _, endpoint in self.endpoints.relatives(tenant):
                self._note_replaced(endpoint, is_touched)
                endpoint.snapshots.drop(is_touched)

    def _drop_people(self, changes: Collection[Change]) -> None:
        members = {(change.ref, change.tenant) for change in changes if change.kind == "member"}
        tenants = {change.tenant for change in changes if change.kind != "member"}

        def is_touched(user: str, tenant: uuid.UUID | None) -> bool:
            return tenant in tenants or (user, tenant) in members

        if families := tenants | {tenant for _, tenant in members}:
            # A key that never was is none of anybody's; it comes into being by a change of its own.
            self.principals.drop(
                lambda _, who: who is not None and is_touched(who.user, who.tenant), families=families
            )
            self.passes.drop(lambda key, _: is_touched(str(key[0]), key[1]), families=families)


_running: Directory | None = None


def running() -> Directory | None:
    """The directory of this process, for whoever asks how it is."""
    return _running
