"""Upstream sessions, one an identity, shared by its calls: opened when needed, ended when idle, bounded in number."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from servers.runtimes.remote.asking import Session
from servers.runtimes.remote.bounds import OPENING_SECONDS
from servers.runtimes.remote.endpoint import Identity
from servers.runtimes.remote.errands import Errands
from servers.runtimes.remote.failures import broken_off, timed_out
from servers.runtimes.remote.flight import SingleFlight

# A session that is lost again as soon as it is open is not worth a third try.
_TRIES = 2

Open = Callable[[Identity], Coroutine[Any, Any, Session]]


class Place:
    """What a call holds while it uses a session."""

    __slots__ = ("flight", "identity", "session", "used_at", "users")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.session: Session | None = None
        self.flight: SingleFlight[None] = SingleFlight()
        self.users = 0
        self.used_at = time.monotonic()


class Pool:
    """`opened` counts the sessions opened so far."""

    def __init__(self, open_session: Open, errands: Errands, *, size: int) -> None:
        self._open = open_session
        self._errands = errands
        self._size = size
        self._places: dict[Identity, Place] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.opened = 0

    def __len__(self) -> int:
        return len(self._places)

    async def take(self, identity: Identity) -> tuple[Place, Session]:
        """A session of the identity, to be given back by `give_back`. The caller bounds the wait.

        Raises CallFailed, and what opening raises.
        """
        place = self._places.get(identity)
        if place is None:
            place = await self._new_place(identity)
        place.users += 1
        try:
            return place, await self._session(place)
        except BaseException:
            self.give_back(place)
            raise

    def give_back(self, place: Place) -> None:
        place.users -= 1
        place.used_at = time.monotonic()
        if place.users:
            return
        is_known = self._places.get(place.identity) is place
        if place.session is None and is_known:
            del self._places[place.identity]
        if place.session is not None and not is_known:  # all was closed while it was being opened
            self._end(place.session)
        self._wake()

    def drop(self, place: Place, session: Session) -> None:
        """The upstream has forgotten it; whoever comes next gets another one."""
        if place.session is session:
            place.session = None

    async def close_idle(self, before: float) -> None:
        """End the sessions that nobody has used since, on the clock of `time.monotonic`."""
        for place in list(self._places.values()):
            if place.users == 0 and place.used_at <= before:
                self._give_up(place)

    async def close(self) -> None:
        """End all sessions; a call in one of them fails."""
        for place in list(self._places.values()):
            self._give_up(place)

    async def _session(self, place: Place) -> Session:
        session = place.session
        if session is not None and not session.is_lost:
            return session
        for _ in range(_TRIES):
            await place.flight.join(partial(self._fill, place))
            if place.session is not None and not place.session.is_lost:
                return place.session
        raise broken_off()

    async def _new_place(self, identity: Identity) -> Place:
        while len(self._places) >= self._size:
            idle = [place for place in self._places.values() if place.users == 0]
            if idle:
                self._give_up(min(idle, key=lambda place: place.used_at))
            else:
                await self._room()
            if identity in self._places:
                return self._places[identity]
        place = self._places[identity] = Place(identity)
        return place

    async def _room(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # it was this one's turn; let the next have it
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _fill(self, place: Place) -> None:
        try:
            async with asyncio.timeout(OPENING_SECONDS):
                session = await self._open(place.identity)
        except TimeoutError:
            raise timed_out(OPENING_SECONDS) from None
        self.opened += 1
        place.session = session

    def _give_up(self, place: Place) -> None:
        del self._places[place.identity]
        session, place.session = place.session, None
        if session is not None:
            self._end(session)

    def _end(self, session: Session) -> None:
        """What it holds here goes at once; telling the upstream is a courtesy, for which there may be no time."""
        session.leave()
        self._errands.run(session.close())
