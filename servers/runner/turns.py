"""Builds one after the other: a few at once, some that wait, and a refusal for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from servers.runner.errors import Busy

AT_ONCE, WAITING, WAIT_SECONDS = 2, 16, 900.0


class Turns:
    """`at_once` have their turn, `waiting` wait for theirs for `seconds` at most."""

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING, seconds: float = WAIT_SECONDS) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self._waiting, self._most, self._seconds = 0, waiting, seconds

    def admit(self) -> None:
        """Raises `Busy` when one more would wait for too long."""
        if self._slots.locked() and self._waiting >= self._most:
            raise Busy(f"{self._waiting} builds wait already. Try again in a minute.", retry_after=60.0)

    @asynccontextmanager
    async def taken(self, waits: Callable[[int], None] = lambda _: None) -> AsyncIterator[None]:
        """For as long as a build takes. `waits` is told how many are before us, if any. Raises `Busy`."""
        self.admit()
        if self._slots.locked():
            waits(self._waiting + 1)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise Busy(f"Other builds have taken more than {self._seconds:g} s.", retry_after=60.0) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()
