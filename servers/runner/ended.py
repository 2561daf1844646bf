"""Client sessions whose own process is gone. What it held cannot be had again, so it is said instead of another being
started in silence.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NoReturn

from servers.runner.errors import SessionEnded

# Sessions that are remembered one by one, a few hundred bytes each.
KEPT = 10_000
# Tenant, server, what of it, and session: whichever version it was.
Place = tuple[str, str, str, str]


@dataclass(slots=True)
class Ended:
    """Those whose clients have opened them, at `opened` in Unix seconds. What was opened `before` has ended too, unless
    it is known to have a process.
    """

    before: int = field(default_factory=lambda: int(time.time()))
    _known: OrderedDict[Place, tuple[int, str]] = field(default_factory=OrderedDict)

    def note(self, place: Place, opened: int, reason: str) -> None:
        self._known[place] = opened, reason
        if len(self._known) > KEPT:
            _, (forgotten, _) = self._known.popitem(last=False)
            self.before = max(self.before, forgotten + 1)

    def check(self, place: Place, opened: int) -> None:
        """Raises `SessionEnded`."""
        if place in self._known:
            refuse(self._known[place][1])
        if opened < self.before:
            refuse("the runner was started after it was opened")


def refuse(reason: str) -> NoReturn:
    raise SessionEnded(f"The process of the session is gone: {reason}.", reason=reason)
