"""Small things to be done that nobody waits for: bounded in number and time, and gone when the client closes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from servers.runtimes.remote.bounds import ERRAND_SECONDS, ERRANDS
from servers.runtimes.remote.failures import CallFailed


class Errands:
    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, object]) -> None:
        """Start it, or leave it when there are too many: an errand is a courtesy."""
        if len(self._running) >= ERRANDS:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(_done(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Let those under way finish, which takes no longer than one errand may."""
        while self._running:
            await asyncio.wait(self._running)


async def _done(work: Coroutine[Any, Any, object]) -> None:
    try:
        async with asyncio.timeout(ERRAND_SECONDS):
            await work
    except (CallFailed, TimeoutError):
        pass
