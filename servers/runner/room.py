"""What there is room for on a machine, and what has to go first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from servers.runner.errors import NoRoom, OverShare
from servers.runner.instance import Instance, Rules
from servers.runner.spares import Spares


@dataclass(frozen=True, slots=True)
class Room:
    """`memory` is the budget of all in bytes."""

    known: Mapping[str, Instance]
    spares: Spares
    memory: int
    rules: Rules

    def fits(self, new: Instance) -> bool:
        """Whether the memory is enough for one more beside all that live. A process that waits for it is taken over."""
        return self._fits_beside(self._live(), new)

    def is_within_share(self, new: Instance, tenants: list[Instance] | None = None) -> bool:
        """Whether its tenant may have it beside `tenants` (None: all of its that live); one, it always may."""
        others = self._of_tenant(new) if tenants is None else tenants
        most = self.memory * self.rules.tenant_share
        return not others or _limits((*others, new)) * self.rules.share_of_limits <= most

    def next_to_go(self, new: Instance) -> Instance | str | None:
        """The longest idle instance that is in the way of a new one, or the key of a process in waiting.

        None where the new one has room. What a tenant has no share for is made room for among its own. Raises `NoRoom`
        and `OverShare` where nothing that is in the way is idle.
        """
        others = [one for one in self._live() if one is not new]
        tenants = self._of_tenant(new)
        sessions = [one for one in tenants if new.session and one.session and one.server == new.server]
        if len(sessions) >= (most := new.spec.limits.sessions):
            return _longest_idle(sessions) or _over("sessions", f"{most} sessions of the server run")
        if len(tenants) >= (most := self.rules.per_tenant):
            return _longest_idle(tenants) or _over("instances", f"{most} processes of the tenant run")
        if not self.is_within_share(new, tenants):
            return _longest_idle(tenants) or _over(
                "memory", "The tenant's processes have all the memory it may take"
            )
        if self._fits_beside(others, new):
            return None
        going = self.spares.oldest(without=new.version) or _longest_idle(others)
        if going is None:
            raise NoRoom("All room for servers is taken, and none of them is idle.", retry_after=5.0)
        return going

    def _fits_beside(self, others: list[Instance], new: Instance) -> bool:
        taken = _limits((*others, new)) + self.spares.memory(without=new.version)
        return taken * self.rules.share_of_limits <= self.memory

    def _live(self) -> list[Instance]:
        return [one for one in self.known.values() if one.is_live]

    def _of_tenant(self, new: Instance) -> list[Instance]:
        """Those of its tenant that live beside it."""
        return [one for one in self._live() if one is not new and one.spec.tenant == new.spec.tenant]


def _limits(instances: Iterable[Instance]) -> int:
    return sum(one.spec.limits.memory for one in instances)


def _longest_idle(instances: list[Instance]) -> Instance | None:
    return min((one for one in instances if one.is_idle), key=lambda one: one.last_used, default=None)


def _over(limit: str, what: str) -> NoReturn:
    raise OverShare(f"{what}, and none of them is idle.", limit=limit, retry_after=5.0)
