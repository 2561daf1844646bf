"""One instance: a process of one version, or of one session of it, and what is known of it while it does not run."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from servers.runner.connections import Connection
from servers.runner.ended import Place
from servers.runner.engine import InstanceInfo, RunSpec, State
from servers.runner.logs import Log


@dataclass(frozen=True, slots=True)
class Rules:
    """How patient a runner is. Seconds, except where a count is meant."""

    first_rest: float = 0.5
    longest_rest: float = 60.0
    crashes: int = 5
    crash_window: float = 600.0
    # An instance that owes an answer for so long is asked whether it still lives; `misses` of that end it.
    silence: float = 60.0
    check: float = 5.0
    misses: int = 2
    stop_grace: float = 2.0
    # How long a start keeps others waiting.
    slot: float = 5.0
    start_margin: float = 1.0
    per_tenant: int = 10
    # Of the budget, how much one tenant may have, but for its first instance.
    tenant_share: float = 0.5
    # Processes in waiting for versions that were evicted, and how long after their last use.
    spares: int = 4
    spare_for: float = 3600.0
    # Of the limits of all instances, how much the budget has to hold: few take what they may.
    share_of_limits: float = 0.5


RULES = Rules()


def place_of(spec: RunSpec, session: str) -> Place:
    return spec.tenant, spec.server, spec.place, session


@dataclass(slots=True)
class Instance:
    """`version` is its key without the session. `opened` is when the client opened that, 0 if it has none.

    `has_served`: it was ready once, so that there is something to lose with its process.
    """

    key: str
    version: str
    spec: RunSpec
    session: str
    log: Log
    opened: int = 0
    has_served: bool = False
    state: State = "stopped"
    reason: str = ""
    connection: Connection | None = None
    starting: asyncio.Task[Connection] | None = None
    starts: int = 0
    came_up: bool = False
    waiting: int = 0
    last_used: float = 0.0
    rest_until: float = 0.0
    crashes: deque[float] = field(default_factory=deque)
    is_being_checked: bool = False

    @property
    def is_live(self) -> bool:
        return self.state in {"starting", "ready", "draining"}

    @property
    def is_idle(self) -> bool:
        return self.state == "ready" and self.connection is not None and self.connection.in_flight == 0

    @property
    def place(self) -> Place:
        """Of its session, whatever the version."""
        return place_of(self.spec, self.session)

    @property
    def server(self) -> str:
        return f"{self.spec.tenant}/{self.spec.server}"

    def info(self, now: float) -> InstanceInfo:
        """As people see it; `now` on the clock of `last_used`."""
        connection = self.connection
        return InstanceInfo(
            instance=self.key,
            tenant=self.spec.tenant,
            server=self.spec.server,
            digest=self.spec.digest,
            state=self.state,
            session=self.session,
            era=connection.era if connection else None,
            in_flight=connection.in_flight if connection else 0,
            starts=self.starts,
            crashes=len(self.crashes),
            came_up=self.came_up,
            silent_for=max(0.0, now - self.last_used),
            reason=self.reason,
            list_changes=connection.list_changes if connection else 0,
        )
