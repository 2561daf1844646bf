"""Timers for a web server's connections, nearly all of which are cancelled.

uvicorn sets one with each answer, to close a connection that stays idle, and cancels it with the next request.
With uvloop that makes every call a twentieth dearer. These are only noted, and looked through once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any

TICK_SECONDS = 1.0


class SlowTimer:
    """Calls `action` within a second after `when` (the loop's clock), unless it is cancelled before."""

    __slots__ = ("_waiting", "action", "arguments", "when")

    def __init__(
        self, waiting: set[SlowTimer], when: float, action: Callable[..., object], arguments: tuple[Any, ...]
    ) -> None:
        self._waiting = waiting
        self.when = when
        self.action = action
        self.arguments = arguments

    def cancel(self) -> None:
        self._waiting.discard(self)


class SlowTimers:
    """As much of an event loop as a protocol of uvicorn uses: tasks as ever, and timers that are late."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.create_task = loop.create_task
        self._loop = loop
        self._waiting: set[SlowTimer] = set()
        self._is_ticking = False

    def call_later(self, delay: float, action: Callable[..., object], *arguments: Any) -> SlowTimer:
        timer = SlowTimer(self._waiting, self._loop.time() + delay, action, arguments)
        self._waiting.add(timer)
        if not self._is_ticking:
            self._is_ticking = True
            self._loop.call_later(TICK_SECONDS, self._tick)
        return timer

    def _tick(self) -> None:
        now = self._loop.time()
        try:
            for timer in [timer for timer in self._waiting if timer.when <= now]:
                # An action may have cancelled one that was due as well.
                if timer in self._waiting:
                    self._waiting.discard(timer)
                    timer.action(*timer.arguments)
        finally:
            self._is_ticking = bool(self._waiting)
            if self._is_ticking:
                self._loop.call_later(TICK_SECONDS, self._tick)


@lru_cache(maxsize=1)
def slow_timers(loop: asyncio.AbstractEventLoop) -> SlowTimers:
    """One for all connections of a loop; a process that serves has one loop."""
    return SlowTimers(loop)
