"""How much: rates (GCRA) and concurrency, all tiers of a call decided at once.

`LocalQuotas` counts in this process. It is right for one process and is what a store that is gone falls back to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

# Names that are counted at a time; a flood of strangers must not grow the table without end.
MAX_NAMES = 100_000
# A tenth of a minute's calls.
_BURST_SECONDS = 6.0


class Rate(NamedTuple):
    """At most `per_minute` calls under `name`; a burst of a tenth of that is admitted at once."""

    name: str
    per_minute: int


@dataclass(frozen=True, slots=True)
class Refused:
    """`retry_after` in seconds; `remaining` is 0 by nature."""

    name: str
    limit: int
    retry_after: float


class Quotas(Protocol):
    async def admit(self, rates: Sequence[Rate], *, slot: str, slots: int) -> Refused | None:
        """Count one call against every rate and take a slot, or change nothing and say which limit refused."""

    def release(self, slot: str) -> None:
        """Give the slot of an admitted call back."""


class LocalQuotas:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._now = clock
        self._arrivals: dict[str, float] = {}
        self._running: dict[str, int] = {}

    async def admit(self, rates: Sequence[Rate], *, slot: str, slots: int) -> Refused | None:
        running = self._running.get(slot, 0)
        if running >= slots:
            return Refused("concurrency", slots, 1.0)
        now = self._now()
        arrivals = self._arrivals
        fresh: dict[str, float] = {}
        for name, per_minute in rates:
            # Generic cell rate algorithm: a name's theoretical arrival time may run ahead by one burst.
            interval = 60.0 / per_minute
            burst = _BURST_SECONDS if per_minute >= 10 else interval  # at least one call
            arrival = arrivals.get(name, now)
            due = (arrival if arrival > now else now) + interval
            if due - now > burst + 1e-9:
                return Refused(name, per_minute, due - now - burst)
            fresh[name] = due
        if len(arrivals) > MAX_NAMES:
            self._forget(now)
            arrivals = self._arrivals
        arrivals |= fresh
        self._running[slot] = running + 1
        return None

    def release(self, slot: str) -> None:
        running = self._running[slot] - 1
        if running:
            self._running[slot] = running
        else:
            del self._running[slot]

    def _forget(self, now: float) -> None:
        """Drop names whose allowance is whole again, and the oldest tenth when that is not enough."""
        kept = {name: due for name, due in self._arrivals.items() if due > now}
        for name in list(kept)[: max(0, len(kept) - MAX_NAMES * 9 // 10)]:
            del kept[name]
        self._arrivals = kept
