"""One piece of work for all who want its result at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """A caller who leaves does not end the work for the others; when the last one leaves, it is cancelled."""

    def __init__(self) -> None:
        self._flight: _Flight[T] | None = None

    async def join(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        flight = self._flight
        if flight is None or flight.task.done():
            flight = self._flight = _Flight(start())
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0:
                flight.task.cancel()
                if self._flight is flight:
                    self._flight = None


class _Flight(Generic[T]):
    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.task = asyncio.get_running_loop().create_task(work)
        self.task.add_done_callback(_look)
        self.waiting = 0


def _look(task: asyncio.Task[Any]) -> None:
    """An error that nobody waits for any more is not an unhandled one."""
    if not task.cancelled():
        task.exception()
