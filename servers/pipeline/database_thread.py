"""Threads with database connections of their own, for what the data plane asks the database beside its calls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import connections

from mooring.errors import Unavailable
from servers.pipeline import loading

V = TypeVar("V")


class DatabaseThread:
    """`ask` does one piece of work at a time, in the system's scope, and waits `seconds` for it.

    A database that says nothing is hung up on, which frees the thread.
    """

    def __init__(self, name: str, *, seconds: float) -> None:
        self._seconds = seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._line = loading.Line()
        self._asked: asyncio.Future[Any] | None = None

    async def ask(self, work: Callable[[], V]) -> V:
        """Raises `Unavailable` when the database is away or does not answer in time."""
        if self._asked is not None and not self._asked.done():
            await asyncio.wait({self._asked}, timeout=self._seconds)
        if self._asked is None or self._asked.done():
            asked = asyncio.get_running_loop().run_in_executor(self._thread, self._line.ask, work)
            asked.add_done_callback(_retrieve)
            self._asked = asked
            await asyncio.wait({asked}, timeout=self._seconds)
            if asked.done():
                return asked.result()
        self._line.cut()
        raise Unavailable("The database does not answer.", code="database_unavailable")

    def cut(self) -> None:
        """End what is running, from any thread."""
        self._line.cut()

    def close(self) -> None:
        """Blocks until the thread has closed its connection. Nobody may ask any more."""
        self._line.cut()
        self._thread.submit(connections.close_all)
        self._thread.shutdown(wait=True)


class DatabaseThreads:
    """Several of them: `ask` waits for one that is free, which the caller bounds, and then `seconds` for the answer."""

    def __init__(self, name: str, *, threads: int, seconds: float) -> None:
        self._all = [DatabaseThread(f"{name}-{number}", seconds=seconds) for number in range(threads)]
        # The one that was used the longest ago is first: by then it is free of what it was given up over.
        self._free = deque(self._all)
        self._room = asyncio.Semaphore(threads)

    async def ask(self, work: Callable[[], V]) -> V:
        """Raises `Unavailable` as `DatabaseThread.ask` does."""
        async with self._room:
            thread = self._free.popleft()
            try:
                return await thread.ask(work)
            finally:
                self._free.append(thread)

    def close(self) -> None:
        """Blocks until all have closed their connections."""
        for thread in self._all:
            thread.cut()
        for thread in self._all:
            thread.close()


def _retrieve(asked: asyncio.Future[Any]) -> None:
    """Nobody may be waiting any more when it fails, which asyncio would remark upon."""
    if not asked.cancelled():
        asked.exception()
