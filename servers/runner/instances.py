"""The life of instances: started once however many ask, rested after crashes, evicted when idle, ended in order.

absent → starting → ready → draining → stopped, and from starting or ready also crashed, which five times within ten
minutes makes broken. A stopped instance that was only idle is started again by the next call.

How a process is started and spoken to is handed in (`Launch`), so the same rules hold for every engine of this kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec import Raw

from servers.runner.engine import Era, InstanceInfo, LogLine, RunSpec, State, instance_key
from servers.runner.errors import Broken, Busy, Malformed, NoRoom, Refused, TimedOut, Unknown, Unready
from servers.runner.logs import Log
from servers.runner.relay import Answer

# What is kept of instances that do not run, so that a call can wake them.
KEPT_STOPPED = 1_000


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
    start_margin: float = 1.0
    per_tenant: int = 10
    # Of the limits of all instances, how much the budget has to hold: few take what they may.
    share_of_limits: float = 0.5


RULES = Rules()

logger = logging.getLogger(__name__)


class Connection(Protocol):
    """A running server. `gone` gets the reason when its process ends, whoever ended it."""

    @property
    def era(self) -> Era: ...
    @property
    def greeting(self) -> Raw: ...
    @property
    def gone(self) -> asyncio.Future[str]: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def unanswered_since(self) -> float | None: ...
    @property
    def list_changes(self) -> int: ...

    async def call(self, method: str, params: bytes | Raw, *, seconds: float) -> Answer: ...
    def notify(self, method: str, params: bytes | Raw) -> None: ...
    async def check(self, *, seconds: float) -> None: ...
    async def quiet(self) -> None: ...
    async def stop(self, grace: float) -> None: ...
    def kill(self, reason: str) -> None: ...


class Launch(Protocol):
    """Start a version and wait until it answers. Raises `Died` or `TimedOut` when it does not, leaving nothing."""

    def __call__(self, spec: RunSpec, name: str, log: Log) -> Coroutine[Any, Any, Connection]: ...


@dataclass(slots=True)
class Instance:
    key: str
    spec: RunSpec
    session: str
    log: Log
    state: State = "stopped"
    reason: str = ""
    connection: Connection | None = None
    starting: asyncio.Task[Connection] | None = None
    starts: int = 0
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
    def server(self) -> str:
        return f"{self.spec.tenant}/{self.spec.server}"


class Instances:
    """All instances of one runner. `memory` is the budget in bytes, `clock` in seconds, `starts` at once."""

    def __init__(
        self,
        launch: Launch,
        *,
        memory: int,
        starts: int | None = None,
        rules: Rules = RULES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._launch, self._memory, self._rules, self._clock = launch, memory, rules, clock
        self._start_slots = asyncio.Semaphore(starts or os.cpu_count() or 1)
        self._known: dict[str, Instance] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closing = False

    # ---- what is asked of them ---------------------------------------------------------------------------

    async def ensure(self, spec: RunSpec, session: str = "") -> Instance:
        if (spec.mode == "session") != bool(session):
            raise Malformed("A session is named where the mode is `session`, and nowhere else.")
        key = instance_key(spec, session)
        instance = self._known.get(key)
        if instance is None:
            instance = Instance(key, spec, session, Log(spec.secrets.values(), clock=self._clock))
            self._known[key] = instance
        await self.connected(key)
        return instance

    async def connected(self, key: str) -> Connection:
        """The connection of a ready instance, which is woken if need be. The whole wait has its limit.

        Raises `Unknown`, `Unready`, `Broken`, `Busy`, `NoRoom`, `Died` and `TimedOut`.
        """
        instance = self.find(key)
        instance.last_used = self._clock()
        if instance.state == "ready" and instance.connection is not None:
            return instance.connection
        self._refuse_to_start(instance)
        return await self._wait_for_start(instance)

    async def drain(self, key: str, deadline: float | None = None) -> None:
        instance = self._known.get(key)
        if instance is None:
            return
        if instance.state == "ready" and instance.connection is not None:
            instance.state, instance.reason = "draining", "it is being replaced"
            seconds = instance.spec.limits.drain if deadline is None else deadline
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(instance.connection.quiet(), seconds)
        await self.stop(key)

    async def stop(self, key: str) -> None:
        instance = self._known.pop(key, None)
        if instance is None:
            return
        if instance.starting is not None:
            instance.starting.cancel()
            await asyncio.wait([instance.starting])
        if (connection := self._detached(instance, "it was stopped")) is not None:
            await connection.stop(self._rules.stop_grace)

    def find(self, key: str) -> Instance:
        try:
            return self._known[key]
        except KeyError:
            raise Unknown("There is no instance by that name.") from None

    def infos(self, tenant: str = "") -> list[InstanceInfo]:
        return [self._info(one) for one in self._known.values() if tenant in {"", one.spec.tenant}]

    def logs(self, key: str, after: int) -> list[LogLine]:
        return self.find(key).log.after(after)

    # ---- housekeeping ------------------------------------------------------------------------------------

    def tend(self) -> None:
        """Evict what has been idle for too long and ask after what is silent. To be called every second or so."""
        now = self._clock()
        for instance in list(self._known.values()):
            if instance.is_idle and now - instance.last_used >= instance.spec.limits.idle:
                self._retire(instance, "it was idle")
            elif self._is_suspect(instance, now):
                self._begin(self._check(instance))
        self._forget_oldest()

    async def close(self, grace: float) -> None:
        """Start nothing any more, drain and stop everything, all at once."""
        self._is_closing = True
        await asyncio.gather(*(self.drain(key, grace) for key in list(self._known)))
        # Whoever watched a process has seen its end by now, and evictions are nearly done.
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _is_suspect(self, instance: Instance, now: float) -> bool:
        if instance.state != "ready" or instance.connection is None or instance.is_being_checked:
            return False
        since = instance.connection.unanswered_since
        # A call may take as long as its limit says, and a simple server answers nothing else meanwhile.
        patience = max(self._rules.silence, instance.spec.limits.call)
        return since is not None and now - since >= patience

    async def _check(self, instance: Instance) -> None:
        connection = instance.connection
        assert connection is not None
        instance.is_being_checked = True
        try:
            for _ in range(self._rules.misses):
                with contextlib.suppress(TimedOut):
                    await connection.check(seconds=self._rules.check)
                    return
            connection.kill("it has been silent for too long and answers no check")
        except Refused:
            return  # busy with others, or gone already
        finally:
            instance.is_being_checked = False

    def _forget_oldest(self) -> None:
        resting = [one for one in self._known.values() if one.state in {"stopped", "crashed", "broken"}]
        resting.sort(key=lambda one: one.last_used)
        for instance in resting[: max(0, len(resting) - KEPT_STOPPED)]:
            del self._known[instance.key]

    # ---- starting ----------------------------------------------------------------------------------------

    def _refuse_to_start(self, instance: Instance) -> None:
        if self._is_closing:
            raise Unready("The runner is stopping.", retry_after=5.0)
        if instance.state == "broken":
            raise Broken(
                f"The server has crashed {len(instance.crashes)} times in a short while and rests until a new version "
                f"or a manual restart. The last time {instance.reason}.",
                log=instance.log.tail(),
            )
        if instance.state == "draining":
            raise Unready(f"The server takes no calls: {instance.reason}.", retry_after=1.0)
        rest = instance.rest_until - self._clock()
        if instance.state == "crashed" and rest > 0:
            raise Unready(
                f"The server has crashed and starts again in {rest:.1f} s: {instance.reason}.",
                retry_after=rest,
                log=instance.log.tail(),
            )
        if instance.waiting >= instance.spec.limits.queue + instance.spec.limits.in_flight:
            raise Busy("The server is starting and enough calls wait for it.", retry_after=1.0)

    async def _wait_for_start(self, instance: Instance) -> Connection:
        """All callers wait for one task; it goes on when they lose patience."""
        if instance.starting is None:
            self._make_room(instance)
            instance.state, instance.reason = "starting", ""
            instance.starting = self._begin(self._start(instance))
        # A little longer than the start itself may take, whose failure says more than our impatience.
        seconds = instance.spec.limits.start + self._rules.start_margin
        instance.waiting += 1
        try:
            return await asyncio.wait_for(asyncio.shield(instance.starting), seconds)
        except TimeoutError:
            raise Unready(f"The server has not started within {seconds:g} s.", retry_after=5.0) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Unready("The server was stopped while it started.", retry_after=1.0) from None
        finally:
            instance.waiting -= 1

    async def _start(self, instance: Instance) -> Connection:
        instance.starts += 1
        name = f"{instance.key}-{instance.starts}"
        try:
            async with self._start_slots:
                connection = await self._launch(instance.spec, name, instance.log)
        except Refused as refused:
            self._note_crash(instance, refused.data.get("reason") or refused.message.rstrip("."))
            raise
        except BaseException:  # cancelled by a stop
            instance.state = "stopped"
            raise
        finally:
            instance.starting = None
        instance.connection, instance.state = connection, "ready"
        instance.last_used = self._clock()
        self._begin(self._watch(instance, connection))
        return connection

    async def _watch(self, instance: Instance, connection: Connection) -> None:
        reason = await asyncio.shield(connection.gone)
        if instance.connection is connection and instance.state in {"ready", "draining"}:
            instance.connection = None
            self._note_crash(instance, reason)
            await connection.stop(0)

    def _note_crash(self, instance: Instance, reason: str) -> None:
        now = self._clock()
        instance.log.note(f"The process ended: {reason}.")
        instance.crashes.append(now)
        while instance.crashes[0] <= now - self._rules.crash_window:
            instance.crashes.popleft()
        count = len(instance.crashes)
        rest = min(self._rules.first_rest * 2 ** (count - 1), self._rules.longest_rest)
        # Servers that died of one cause do not all come back at once.
        instance.rest_until = now + rest * random.uniform(0.8, 1.2)
        instance.state = "broken" if count >= self._rules.crashes else "crashed"
        instance.reason = reason

    # ---- room --------------------------------------------------------------------------------------------

    def _make_room(self, new: Instance) -> None:
        """Evict what is idle, the longest idle first, until the new one fits. Raises `NoRoom`."""
        for limit, members in self._bounds(new):
            while not limit(others := [one for one in members() if one is not new]):
                idle = min(
                    (one for one in others if one.is_idle), key=lambda one: one.last_used, default=None
                )
                if idle is None:
                    raise NoRoom("All room for servers is taken, and none of them is idle.", retry_after=5.0)
                self._retire(idle, "another server needed its room")

    def _bounds(
        self, new: Instance
    ) -> list[tuple[Callable[[list[Instance]], bool], Callable[[], list[Instance]]]]:
        def live() -> list[Instance]:
            return [one for one in self._known.values() if one.is_live]

        def of_tenant() -> list[Instance]:
            return [one for one in live() if one.spec.tenant == new.spec.tenant]

        def sessions() -> list[Instance]:
            return [one for one in of_tenant() if new.session and one.session and one.server == new.server]

        def fits(others: list[Instance]) -> bool:
            taken = sum(one.spec.limits.memory for one in others) + new.spec.limits.memory
            return taken * self._rules.share_of_limits <= self._memory

        return [
            (lambda others: len(others) < new.spec.limits.sessions, sessions),
            (lambda others: len(others) < self._rules.per_tenant, of_tenant),
            (fits, live),
        ]

    # ---- ending ------------------------------------------------------------------------------------------

    def _retire(self, instance: Instance, reason: str) -> None:
        """Out of sight at once, so that a call that comes meanwhile starts a new process; gone a little later."""
        if (connection := self._detached(instance, reason)) is not None:
            self._begin(connection.stop(self._rules.stop_grace))

    def _detached(self, instance: Instance, reason: str) -> Connection | None:
        connection, instance.connection = instance.connection, None
        instance.state, instance.reason = "stopped", reason
        return connection

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        """Refusals are told to those who waited, if anybody still did; anything else is a bug."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Refused):
            logger.error("A task of the runner failed.", exc_info=error)

    def _info(self, instance: Instance) -> InstanceInfo:
        connection = instance.connection
        return InstanceInfo(
            instance=instance.key,
            tenant=instance.spec.tenant,
            server=instance.spec.server,
            digest=instance.spec.digest,
            state=instance.state,
            session=instance.session,
            era=connection.era if connection else None,
            in_flight=connection.in_flight if connection else 0,
            starts=instance.starts,
            crashes=len(instance.crashes),
            silent_for=max(0.0, self._clock() - instance.last_used),
            reason=instance.reason,
            list_changes=connection.list_changes if connection else 0,
        )
