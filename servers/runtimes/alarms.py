"""Limits of time for calls, nearly all of which end long before.

A timer of the event loop costs 10 µs of every call, needed or not. Here a call only notes when it wants to be
woken, and one timer serves all calls of a loop.
"""

from __future__ import annotations

import asyncio
import math
import threading
from types import TracebackType

# The most by which an alarm rings late. Looking through all of them is done no more often than this.
COARSE_SECONDS = 0.01


class Alarm:
    """Set, it calls `ring` once `when` (the loop's clock) is past, unless it is cancelled before."""

    __slots__ = ("_waiting", "when")

    def __init__(self, when: float) -> None:
        self.when = when

    def set(self) -> None:
        """On the running loop."""
        alarms = _of_this_loop()
        self._waiting = alarms.waiting
        self._waiting.add(self)
        if self.when < alarms.rings_at:
            alarms.wind(self.when)

    def cancel(self) -> None:
        self._waiting.discard(self)

    def ring(self) -> None:
        """Must not raise."""
        raise NotImplementedError


class TimeLimit(Alarm):
    """`with TimeLimit(deadline):` raises TimeoutError, as `asyncio.timeout_at` does.

    Once `expired`, a CancelledError inside is ours.
    """

    __slots__ = ("_cancelling", "_task", "expired")

    def __enter__(self) -> TimeLimit:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self.expired = False
        self.set()
        return self

    def ring(self) -> None:
        self.expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        # Cancelled by somebody else too: then that is what goes on.
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error


class _Alarms:
    """All that wait on one loop. The timer stands at or before the first of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: set[Alarm] = set()
        self.rings_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def wind(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(when, self._ring)
        self.rings_at = when

    def _ring(self) -> None:
        now = self.loop.time()
        self._timer, self.rings_at = None, math.inf
        for alarm in [alarm for alarm in self.waiting if alarm.when <= now]:
            self.waiting.discard(alarm)
            alarm.ring()
        if self.waiting:
            self.wind(max(min(alarm.when for alarm in self.waiting), now + COARSE_SECONDS))


# A thread runs one loop at a time, so the last one's is all that is kept.
class _Here(threading.local):
    alarms: _Alarms | None = None


_here = _Here()


def _of_this_loop() -> _Alarms:
    loop, alarms = asyncio.get_running_loop(), _here.alarms
    if alarms is None or alarms.loop is not loop:
        alarms = _here.alarms = _Alarms(loop)
    return alarms
