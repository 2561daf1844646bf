"""Client sessions whose own process is gone. What it held cannot be had again, so it is said instead of another being
started in silence.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NoReturn

from servers.runner.errors import SessionEnded

# Sessions that are remembered one by one, a few hundred bytes each, and tenants of which some were forgotten.
KEPT = 10_000
# Tenant, server, what of it, and session: whichever version it was.
Place = tuple[str, str, str, str]


@dataclass(slots=True)
class Ended:
    """Those whose clients have opened them, at `opened` in Unix seconds. What was opened `before` has ended too, unless
    it is known to have a process.

    A tenant with many loses its own oldest, and has a later `before` than the others from then on.
    """

    before: int = field(default_factory=lambda: int(time.time()))
    _known: dict[str, OrderedDict[Place, tuple[int, str]]] = field(default_factory=dict)
    _before: OrderedDict[str, int] = field(default_factory=OrderedDict)

    def note(self, place: Place, opened: int, reason: str) -> None:
        self._known.setdefault(place[0], OrderedDict())[place] = opened, reason
        if sum(map(len, self._known.values())) > KEPT:
            self._forget_one()

    def check(self, place: Place, opened: int) -> None:
        """Raises `SessionEnded`."""
        tenant = place[0]
        if tenant in self._known and place in self._known[tenant]:
            refuse(self._known[tenant][place][1])
        if opened < max(self.before, self._before.get(tenant, 0)):
            refuse("the runner was started after it was opened")

    def _forget_one(self) -> None:
        """The oldest of the tenant with the most."""
        tenant = max(self._known, key=lambda one: len(self._known[one]))
        _, (opened, _) = self._known[tenant].popitem(last=False)
        if not self._known[tenant]:
            del self._known[tenant]
        self._before[tenant] = max(self._before.get(tenant, 0), opened + 1)
        if len(self._before) > KEPT:
            _, before = self._before.popitem(last=False)
            self.before = max(self.before, before)


def refuse(reason: str) -> NoReturn:
    raise SessionEnded(f"The process of the session is gone: {reason}.", reason=reason)
