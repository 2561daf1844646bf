"""Who may start when: starting costs processor time, so only a few do at once, and no tenant is in another's way."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager


class StartSlots:
    """`count` starts at once, of one tenant half of that at most; tenants that wait are served one after the other.

    A start that takes longer than `seconds` goes on without its slot: by then it sleeps more than it works.
    """

    def __init__(self, count: int, seconds: float) -> None:
        self._free, self._share, self._seconds = count, max(1, count // 2), seconds
        self._held: Counter[str] = Counter()
        # In the order of their turns; nobody is in it without waiting.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def taken(self, tenant: str) -> AsyncIterator[None]:
        await self._take(tenant)
        # Closed once, by whichever end comes first.
        with ExitStack() as slot:
            slot.callback(self._release, tenant)
            slot.callback(asyncio.get_running_loop().call_later(self._seconds, slot.close).cancel)
            yield

    async def _take(self, tenant: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(tenant, turn)
            else:  # it came at the same moment
                self._release(tenant)
            raise

    def _release(self, tenant: str) -> None:
        self._free += 1
        self._held[tenant] -= 1
        self._held += Counter()  # without those that hold none
        self._serve()

    def _serve(self) -> None:
        while self._free and (tenant := self._next()) is not None:
            turn = self._waiting[tenant][0]
            self._forget(tenant, turn)
            if tenant in self._waiting:
                self._waiting.move_to_end(tenant)
            if not turn.cancelled():
                self._free -= 1
                self._held[tenant] += 1
                turn.set_result(None)

    def _next(self) -> str | None:
        return next((tenant for tenant in self._waiting if self._held[tenant] < self._share), None)

    def _forget(self, tenant: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(tenant, deque())
        if turn in turns:
            turns.remove(turn)
        if not turns:
            self._waiting.pop(tenant, None)
