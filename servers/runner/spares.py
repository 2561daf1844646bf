"""Processes that wait for a version to be called again: up, with its packages imported, and nothing of it run yet.

Each is for one version as one tenant has configured it, with that tenant's user, environment and ways out: for the
instance that was evicted, or for the next session.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from servers.runner.connections import Prepared
from servers.runner.engine import RunSpec
from servers.runner.logs import Log


@dataclass(frozen=True, slots=True)
class Spare:
    """`log` is where it writes; `last_used` is when its instance last was, on the clock of whoever puts it here."""

    spec: RunSpec
    process: Prepared
    log: Log
    last_used: float


@dataclass(slots=True)
class Spares:
    """By the keys of their versions (`engine.instance_key` without a session)."""

    _held: dict[str, Spare] = field(default_factory=dict)

    @property
    def digests(self) -> set[str]:
        return {spare.spec.digest for spare in self._held.values()}

    def memory(self, *, without: str = "") -> int:
        """The limits of all together but one, in bytes."""
        return sum(spare.spec.limits.memory for key, spare in self._held.items() if key != without)

    def put(self, key: str, spare: Spare) -> None:
        self._held[key] = spare

    def has(self, key: str) -> bool:
        return key in self._held

    def would_hold(self, last_used: float, *, most: int) -> bool:
        """Whether one whose instance was last used then is among the latest `most`."""
        return sum(spare.last_used >= last_used for spare in self._held.values()) < most

    def take(self, key: str) -> Spare | None:
        """One that still lives; what has died stays until it is dropped."""
        spare = self._held.get(key)
        if spare is None or spare.process.gone.done():
            return None
        del self._held[key]
        return spare

    def drop(self, key: str) -> asyncio.Task[None] | None:
        """Begin to end it; None when there is none."""
        spare = self._held.pop(key, None)
        return asyncio.create_task(spare.process.drop()) if spare else None

    def oldest(self, *, without: str = "") -> str:
        """The key of the one whose instance was not used for the longest; empty when there is none."""
        others = [key for key in self._held if key != without]
        return min(others, key=lambda key: self._held[key].last_used, default="")

    def useless(self, before: float) -> list[str]:
        """Keys of those that have died, or whose instance was last used then or before."""
        return [
            key for key, spare in self._held.items() if spare.last_used <= before or spare.process.gone.done()
        ]

    def __len__(self) -> int:
        return len(self._held)

    def drop_all(self) -> list[asyncio.Task[None]]:
        return [task for key in list(self._held) if (task := self.drop(key)) is not None]
