"""The door to one MCP server elsewhere, whatever revision it speaks.

    client = RemoteClient(Endpoint("https://mcp.example/mcp", (("Authorization", "Bearer …"),)), upstream)
    outcome = await client.call_tool("forecast", {"region": "emea"}, deadline=…, limit=1_000_000)

It finds the era by itself and remembers it, pools sessions where the era has them, repeats what may be repeated,
and keeps to the upstream's limit of concurrent calls and its breaker. Deadlines are on the event loop's clock. Only
`call_tool` answers with an Outcome whatever happens; the others raise CallFailed, or Refused for a JSON-RPC error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec

from servers.runtimes.base import Health
from servers.runtimes.remote import health, results
from servers.runtimes.remote.asking import About, Ask, Era, Session
from servers.runtimes.remote.bounds import OPENING_SECONDS, SESSIONS
from servers.runtimes.remote.calling import Visitor
from servers.runtimes.remote.endpoint import SHARED, Endpoint, Identity, Introduction
from servers.runtimes.remote.failures import (
    BadStatus,
    CallFailed,
    EraMistaken,
    NotOpened,
    Refused,
    SessionLost,
    Unreachable,
    timed_out,
)
from servers.runtimes.remote.flight import SingleFlight
from servers.runtimes.remote.handshake import open_session
from servers.runtimes.remote.listing import Kind, Listing, Pages
from servers.runtimes.remote.messages import Reply, result_of
from servers.runtimes.remote.modern import Modern
from servers.runtimes.remote.pool import Pool
from servers.runtimes.remote.stream import open_stream
from servers.runtimes.remote.wire import Wire
from servers.runtimes.upstreams import Upstream, Visit

R = TypeVar("R")
# How an upstream refuses to initialize when it is an HTTP+SSE one.
_NO_HANDSHAKE = (400, 404, 405)


class RemoteClient(Visitor):
    """Belongs to the event loop, but may be made on any thread.

    `upstream` brings the HTTP session, the limit and the breaker.
    `sessions` bounds the upstream sessions that are open at once; with no fewer than the upstream's concurrent calls,
    no call waits for one. `on_session` is told when a session is opened, so that somebody can end it later.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        upstream: Upstream,
        *,
        introduction: Introduction | None = None,
        sessions: int = SESSIONS,
        on_session: Callable[[RemoteClient], None] = lambda client: None,
    ) -> None:
        super().__init__(upstream)
        self.endpoint = endpoint
        self._wire = Wire(endpoint, upstream, introduction or Introduction())
        self._modern = Modern(self._wire)
        self._pool = Pool(self._open, self._wire.errands, size=sessions)
        self._on_session = on_session
        self._detecting: SingleFlight[None] = SingleFlight()
        self._era: Era | None = None
        self._about: About | None = None

    @property
    def era(self) -> Era | None:
        """What the upstream was found to speak, or None when that is not known yet, or no longer."""
        return self._era

    @property
    def sessions_open(self) -> int:
        return len(self._pool)

    @property
    def sessions_opened(self) -> int:
        """Since the client was made."""
        return self._pool.opened

    # ---- what it says of itself --------------------------------------------------------------------------

    async def about(self, *, deadline: float, identity: Identity = SHARED) -> About:
        """What the upstream says of itself, as it was when its era was found or the session opened."""
        return await self._visiting(deadline, self._introduced, identity)

    async def list_all(self, kind: Kind, *, deadline: float, identity: Identity = SHARED) -> Listing:
        """All pages of a list, within bounds. A kind that the upstream does not offer is an empty list."""
        said = await self.about(deadline=deadline, identity=identity)
        pages = Pages(kind, is_modern=said.era is Era.MODERN)
        if not pages.is_offered(said.capabilities):
            return pages.listing()
        while (params := pages.next_params()) is not None:
            ask = Ask(pages.method, params, pages.bytes_left, identity, deadline=deadline)
            await pages.take(self.ask(ask, pages.decoder))
        return pages.listing()

    async def probe(self, *, seconds: float = 5.0) -> Health:
        """Whether the upstream is there, in words for people. Needs no credential: a refusal of ours is a sign of life.

        It passes by the limit of calls and the breaker, which tell of calls and not of the upstream.
        """
        began = time.monotonic()
        self.upstream.probing += 1
        try:
            async with asyncio.timeout(seconds):
                await self._ping()
        except TimeoutError:
            return health.of(timed_out(seconds), self._era, time.monotonic() - began)
        except CallFailed as failed:
            return health.of(failed, self._era, time.monotonic() - began)
        finally:
            self.upstream.probing -= 1
        return health.of(None, self._era, time.monotonic() - began)

    async def close_idle(self, seconds: float) -> None:
        """End the sessions unused for so long."""
        await self._pool.close_idle(time.monotonic() - seconds)

    async def close(self) -> None:
        """End all sessions and wait for that; takes a few seconds at most. The HTTP session is its owner's."""
        await self._pool.close()
        await self._wire.close()

    # ---- one request -------------------------------------------------------------------------------------

    async def _once(self, ask: Ask, decoder: msgspec.json.Decoder[Reply[R]]) -> R:
        if self._era is None:
            await self._detect(ask.identity)
        believed = self._era
        try:
            if believed is Era.MODERN:
                request_id, data = await self._modern.ask(ask)
            else:
                request_id, data = await self._asked_in_session(ask)
        except EraMistaken as mistaken:
            mistaken.believed = believed
            raise
        return result_of(decoder, data, request_id)

    async def _asked_in_session(self, ask: Ask) -> tuple[int, bytes]:
        place, session = await self._pool.take(ask.identity)
        try:
            return await session.ask(ask)
        except SessionLost:
            self._pool.drop(place, session)
            raise
        except EraMistaken as mistaken:
            if mistaken.is_gone:
                self._pool.drop(place, session)
            raise
        finally:
            self._pool.give_back(place)

    async def _mend(self, failed: CallFailed, visit: Visit, identity: Identity, is_repeatable: bool) -> None:
        """Make a second try worth while, or raise. In the first two cases the upstream did nothing."""
        if isinstance(failed, SessionLost):
            return  # the next try opens another one
        if isinstance(failed, EraMistaken):
            await self._find_again(failed, identity)
            return
        if not isinstance(failed, Unreachable) or not is_repeatable or not visit.take_retry():
            raise failed
        await visit.pause()

    # ---- the era -----------------------------------------------------------------------------------------

    async def _detect(self, identity: Identity) -> None:
        await self._detecting.join(lambda: self._find_era(identity))

    async def _find_again(self, mistaken: EraMistaken, identity: Identity) -> None:
        if self._era is mistaken.believed:  # and not found anew by another call meanwhile
            self._era = None
        if self._era is None:
            await self._detect(identity)
        if self._era is mistaken.believed and not mistaken.is_gone:
            raise mistaken.why

    async def _find_era(self, identity: Identity) -> None:
        """Ask with server/discover, which does nothing wherever it arrives. Nothing is remembered of a failure."""
        if self._era is not None:
            return
        try:
            async with asyncio.timeout(OPENING_SECONDS):
                found = None if self.endpoint.transport == "sse" else await self._modern.discover(identity)
                if found is not None:
                    self._era, self._about = Era.MODERN, found
                    return
                place, session = await self._pool.take(identity)
                self._era = session.about.era
                self._pool.give_back(place)
        except TimeoutError:
            raise timed_out(OPENING_SECONDS) from None

    async def _open(self, identity: Identity) -> Session:
        """A session of the era that is known, or of the one that works. Raises CallFailed, EraMistaken among it."""
        try:
            session = await self._opened(identity)
        except BadStatus as bad:
            if self._era is None or bad.is_transient:
                raise
            raise EraMistaken(bad, is_gone=True) from None
        except Refused as refused:
            raise NotOpened(refused) from None
        self._era, self._about = session.about.era, session.about
        self._on_session(self)
        return session

    async def _opened(self, identity: Identity) -> Session:
        known: Era | Literal["sse", "http", "auto"] = self._era or self.endpoint.transport
        if known in (Era.STREAM, "sse"):
            return await open_stream(self._wire, identity)
        try:
            return await open_session(self._wire, identity)
        except BadStatus as bad:
            if known != "auto" or bad.status not in _NO_HANDSHAKE:
                raise
            refused = bad if bad.error is None else Refused(bad.error, bad.verdict)
        try:
            return await open_stream(self._wire, identity)
        except BadStatus as bad:
            if bad.is_transient:
                raise
            raise refused from None  # the better explanation: there is no stream either

    async def _introduced(self, visit: Visit, identity: Identity) -> About:
        if self._era is None:
            await self._detect(identity)
        if self._era is not Era.MODERN:
            place, session = await self._pool.take(identity)
            self._pool.give_back(place)
            return session.about
        assert self._about is not None
        return self._about

    async def _ping(self) -> None:
        if self._era is Era.MODERN:
            found = await self._modern.discover(SHARED)
            if found is not None:
                self._about = found
                return
            self._era = None
        if self._era is None:
            await self._detect(SHARED)
        else:
            await self._ping_session()

    async def _ping_session(self) -> None:
        ask = Ask("ping", {}, 64 * 1024)
        try:
            await self._once(ask, results.ANYTHING)
        except SessionLost:
            await self._once(ask, results.ANYTHING)
