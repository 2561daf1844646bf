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
import secrets
import time
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from servers.runner import ended
from servers.runner.connections import Connection, Launch, Prepared
from servers.runner.engine import InstanceInfo, LogLine, RunSpec, instance_key
from servers.runner.errors import (
    Broken,
    Busy,
    Malformed,
    Missing,
    NoRoom,
    OverShare,
    Refused,
    TimedOut,
    Unknown,
    Unready,
)
from servers.runner.instance import RULES, Instance, Rules, place_of
from servers.runner.logs import Log, Memory, ServerLogs
from servers.runner.room import Room
from servers.runner.spares import Spare, Spares
from servers.runner.starting import StartSlots

# What is kept of instances that do not run, so that a call can wake them.
KEPT_STOPPED = 1_000


logger = logging.getLogger(__name__)


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
        self._launch, self._rules, self._clock = launch, rules, clock
        # Of this process alone: one that is started again knows no instance either.
        self._secret = secrets.token_bytes(32)
        self._start_slots = StartSlots(starts or os.cpu_count() or 1, rules.slot)
        self._known: dict[str, Instance] = {}
        self._spares = Spares()
        self._room = Room(self._known, self._spares, memory, rules)
        self._preparing: dict[str, asyncio.Task[None]] = {}
        self._names = count(1)
        self._ended = ended.Ended()
        self._log_memory = Memory()
        self.server_logs = ServerLogs(self._log_memory)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closing = False

    # ---- what is asked of them ---------------------------------------------------------------------------

    async def ensure(self, spec: RunSpec, session: str = "", opened: int = 0) -> Instance:
        if (spec.mode == "session") != bool(session):
            raise Malformed("A session is named where the mode is `session`, and nowhere else.")
        key = instance_key(self._secret, spec, session)
        instance = self._known.get(key)
        if instance is None:
            if session:
                self._refuse_ended(spec, session, opened)
            log, version = self._log(key, spec), instance_key(self._secret, spec)
            instance = self._known[key] = Instance(key, version, spec, session, log, opened)
        await self.connected(key)
        return instance

    async def connected(self, key: str) -> Connection:
        """The connection of a ready instance, which is woken if need be. The whole wait has its limit.

        Raises `Unknown`, `SessionEnded`, `Unready`, `Broken`, `Busy`, `NoRoom`, `OverShare`, `Died` and `TimedOut`.
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
        self._note_ended(instance, "it was stopped")
        if not self._has_siblings(instance):
            await self._end_spare(instance.version)
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
        return [one.info(self._clock()) for one in self._known.values() if tenant in {"", one.spec.tenant}]

    @property
    def digests(self) -> set[str]:
        """Of the versions that run, or wait to."""
        return {one.spec.digest for one in self._known.values() if one.is_live} | self._spares.digests

    def logs(self, key: str, after: int) -> list[LogLine]:
        return self.find(key).log.after(after)

    # ---- housekeeping ------------------------------------------------------------------------------------

    def tend(self) -> None:
        """Evict what has been idle for too long and ask after what is silent. To be called every second or so."""
        now = self._clock()
        # The latest used first, since only those may get a process that waits.
        for instance in sorted(self._known.values(), key=lambda one: -one.last_used):
            if instance.is_idle and now - instance.last_used >= instance.spec.limits.idle:
                self._retire(instance, "it was idle")
                if not instance.session:
                    self._begin_spare(instance)
            elif self._is_suspect(instance, now):
                self._begin(self._check(instance))
        for key in self._spares.useless(now - self._rules.spare_for):
            self._drop_spare(key)
        self._forget_oldest()

    async def close(self, grace: float) -> None:
        """Start nothing any more, drain and stop everything, all at once."""
        self._is_closing = True
        for task in self._spares.drop_all():
            self._follow(task)
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
        since = connection.unanswered_since
        try:
            for _ in range(self._rules.misses):
                with contextlib.suppress(TimedOut):
                    await connection.check(seconds=self._rules.check)
                    return
                if connection.unanswered_since != since:
                    return  # it answers what it was asked before
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
            self._note_ended(instance, instance.reason)
            if not self._has_siblings(instance):
                self._drop_spare(instance.version)

    # ---- starting ----------------------------------------------------------------------------------------

    def _refuse_to_start(self, instance: Instance) -> None:
        if self._is_closing:
            raise Unready("The runner is stopping.", retry_after=5.0)
        if instance.state == "broken":
            raise Broken(
                f"The server has crashed {len(instance.crashes)} times in a short while and rests until a new version "
                f"or a manual restart. The last time {instance.reason}.",
                reason=instance.reason,
                log=instance.log.tail(),
            )
        if instance.state == "draining":
            raise Unready(f"The server takes no calls: {instance.reason}.", retry_after=1.0)
        if instance.session and instance.has_served and not instance.is_live:
            # Without a session that could be opened anew, its caller is told once.
            instance.has_served = bool(instance.opened)
            ended.refuse(instance.reason)
        rest = instance.rest_until - self._clock()
        if instance.state == "crashed" and rest > 0:
            raise Unready(
                f"The server has crashed and starts again in {rest:.1f} s: {instance.reason}.",
                retry_after=rest,
                reason=instance.reason,
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
        instance.came_up = False
        try:
            async with self._start_slots.taken(instance.spec.tenant):
                connection = await (await self._prepared(instance)).open()
        except (Missing, NoRoom, OverShare) as refused:
            # Nothing was started, so nothing has crashed and nothing has to rest.
            instance.state, instance.reason = "stopped", refused.message.rstrip(".")
            raise
        except Refused as refused:
            self._note_crash(instance, refused.data.get("reason") or refused.message.rstrip("."))
            raise
        except BaseException:  # cancelled by a stop
            instance.state = "stopped"
            raise
        finally:
            instance.starting = None
        instance.connection, instance.state, instance.came_up = connection, "ready", True
        instance.has_served = True
        instance.last_used = self._clock()
        self._begin(self._watch(instance, connection))
        if instance.session:
            self._begin_spare(instance)
        return connection

    async def _prepared(self, instance: Instance) -> Prepared:
        """The process in waiting, or a new one."""
        spare = self._spares.take(instance.version)
        if spare is None:
            return await self._launch(instance.spec, self._name(instance), instance.log)
        if spare.log is not instance.log:
            spare.log.belong_to(instance.key)
            instance.log = spare.log
        return spare.process

    def _name(self, instance: Instance) -> str:
        """Of one of its processes."""
        return f"{instance.key}-{next(self._names)}"

    def _log(self, key: str, spec: RunSpec) -> Log:
        def also(line: LogLine) -> None:
            self.server_logs.keep(spec.tenant, spec.server, line)

        return Log(
            (*spec.secrets.values(), *spec.masked),
            instance=key,
            owner=spec.tenant,
            memory=self._log_memory,
            also=also,
            clock=self._clock,
        )

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

    # ---- sessions ----------------------------------------------------------------------------------------

    def _refuse_ended(self, spec: RunSpec, session: str, opened: int) -> None:
        """Raises `SessionEnded` for a session without this version whose process is gone, or is of another one."""
        place = place_of(spec, session)
        if opened:
            self._ended.check(place, opened)
        others = [one for one in self._known.values() if one.place == place and one.has_served]
        for other in others:
            other.has_served = False  # told here, and so not once more
            self._begin(self.drain(other.key))
        if others:
            if opened:
                self._ended.note(place, opened, "another version has taken its place")
            ended.refuse("another version has taken its place")

    def _note_ended(self, instance: Instance, reason: str) -> None:
        """Of one that is forgotten. Of a caller without sessions the gateway knows, which finds it gone."""
        if instance.opened and instance.has_served:
            self._ended.note(instance.place, instance.opened, reason)

    # ---- spares ------------------------------------------------------------------------------------------

    def _begin_spare(self, instance: Instance) -> None:
        """Unless one is on its way."""
        if instance.version not in self._preparing and self._is_worth_a_spare(instance):
            task = self._preparing[instance.version] = self._begin(self._prepare_spare(instance))
            task.add_done_callback(lambda _: self._preparing.pop(instance.version))

    async def _prepare_spare(self, instance: Instance) -> None:
        """One for an instance that was evicted, or for the next session, if there is room without evicting another."""
        # Who will have the next session, and so its log, is not known yet.
        log = self._log("", instance.spec) if instance.session else instance.log
        async with self._start_slots.taken(instance.spec.tenant):
            if not self._may_have_spare(instance):
                return
            process = await self._launch(instance.spec, self._name(instance), log)
        if self._may_have_spare(instance):
            self._spares.put(instance.version, Spare(instance.spec, process, log, instance.last_used))
            if len(self._spares) > self._rules.spares:
                self._drop_spare(self._spares.oldest())
        else:  # called, stopped or forgotten meanwhile
            await process.drop()

    def _is_worth_a_spare(self, instance: Instance) -> bool:
        """Only our own artifacts run nothing before they are asked."""
        since = self._clock() - instance.last_used
        return since < self._rules.spare_for and not instance.spec.artifact

    def _may_have_spare(self, instance: Instance) -> bool:
        return (
            not self._is_closing
            and instance.state == ("ready" if instance.session else "stopped")
            and self._known.get(instance.key) is instance
            and not self._spares.has(instance.version)
            and self._spares.would_hold(instance.last_used, most=self._rules.spares)
            and self._room.fits(instance)
            and self._room.is_within_share(instance)
        )

    def _has_siblings(self, instance: Instance) -> bool:
        """Other sessions of its version."""
        return any(one.version == instance.version for one in self._known.values())

    async def _end_spare(self, version: str) -> None:
        """Returns when there is none, nor will be."""
        if (preparing := self._preparing.get(version)) is not None:
            preparing.cancel()
            await asyncio.wait([preparing])
        if (dropping := self._drop_spare(version)) is not None:
            await asyncio.wait([dropping])

    def _drop_spare(self, key: str) -> asyncio.Task[None] | None:
        task = self._spares.drop(key)
        if task is not None:
            self._follow(task)
        return task

    def _make_room(self, new: Instance) -> None:
        """Raises `NoRoom` and `OverShare`."""
        while (going := self._room.next_to_go(new)) is not None:
            if isinstance(going, str):
                self._drop_spare(going)
            else:
                self._retire(going, "another server needed its room")

    # ---- ending ------------------------------------------------------------------------------------------

    def _retire(self, instance: Instance, reason: str) -> None:
        """Out of sight at once, so that a call that comes meanwhile starts a new process; gone a little later."""
        if (connection := self._detached(instance, reason)) is not None:
            self._begin(connection.stop(self._rules.stop_grace))

    def _detached(self, instance: Instance, reason: str) -> Connection | None:
        connection, instance.connection = instance.connection, None
        if instance.session and connection is not None:
            instance.log.note(f"The session has ended: {reason}.")
        instance.state, instance.reason = "stopped", reason
        return connection

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._follow(task)
        return task

    def _follow(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        """Refusals are told to those who waited, if anybody still did; anything else is a bug."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Refused):
            logger.error("A task of the runner failed.", exc_info=error)
