"""What there is room for on a machine, and what has to go first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from servers.runner.errors import NoRoom
from servers.runner.instance import Instance, Rules
from servers.runner.spares import Spares


@dataclass(frozen=True, slots=True)
class Room:
    """`memory` is the budget of all in bytes."""

    known: Mapping[str, Instance]
    spares: Spares
    memory: int
    rules: Rules

    def fits(self, new: Instance, others: list[Instance] | None = None) -> bool:
        """Whether the memory is enough for one more beside `others` (None: all that live).

        A process that waits for it is taken over.
        """
        others = self._live() if others is None else others
        taken = sum(one.spec.limits.memory for one in others) + new.spec.limits.memory
        taken += self.spares.memory(without=new.version)
        return taken * self.rules.share_of_limits <= self.memory

    def next_to_go(self, new: Instance) -> Instance | str | None:
        """The longest idle instance that is in the way of a new one, or the key of a process in waiting.

        None where the new one has room. Raises `NoRoom` where nothing that is in the way is idle.
        """
        others = [one for one in self._live() if one is not new]
        tenants = [one for one in others if one.spec.tenant == new.spec.tenant]
        sessions = [one for one in tenants if new.session and one.session and one.server == new.server]
        if len(sessions) >= new.spec.limits.sessions:
            return _longest_idle(sessions)
        if len(tenants) >= self.rules.per_tenant:
            return _longest_idle(tenants)
        if self.fits(new, others):
            return None
        return self.spares.oldest(without=new.version) or _longest_idle(others)

    def _live(self) -> list[Instance]:
        return [one for one in self.known.values() if one.is_live]


def _longest_idle(instances: list[Instance]) -> Instance:
    idle = [one for one in instances if one.is_idle]
    if not idle:
        raise NoRoom("All room for servers is taken, and none of them is idle.", retry_after=5.0)
    return min(idle, key=lambda one: one.last_used)
