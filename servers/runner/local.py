"""The engine that runs code on this machine, one sandbox an instance."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import Raw

from servers.runner import eras
from servers.runner.engine import Capabilities, Era, RunSpec
from servers.runner.errors import Died, NoRoom, Refused
from servers.runner.hosted import HostedEngine
from servers.runner.instances import RULES, Connection, Instances, Rules
from servers.runner.logs import Log
from servers.runner.relay import Answer, Relay
from servers.runner.sandbox import cgroups, launcher, probing, process, seccomp
from servers.runner.sandbox.process import Sandbox
from servers.runner.sandbox.users import Users


@dataclass(frozen=True, slots=True)
class Settings:
    """`folder` holds the socket, `memory` is the budget of all instances in bytes, `users` only root can use."""

    folder: Path
    memory: int
    bearer: str
    allows_unsafe: bool = False
    runtime: str = field(default_factory=launcher.default_runtime)
    users: Users = field(default_factory=Users)

    @property
    def name(self) -> str:
        """Of the runner's control group: the same after a restart, different for two on one machine."""
        return f"mooring-{hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:8]}"

    @property
    def socket(self) -> Path:
        return self.folder / "runner.sock"


@dataclass(slots=True)
class Sandboxed:
    """A server in its sandbox (`instances.Connection`). `release` gives back the user it ran as."""

    relay: Relay
    opened: eras.Opened
    sandbox: Sandbox
    release: Callable[[], None]

    @property
    def era(self) -> Era:
        return self.opened.era

    @property
    def greeting(self) -> Raw:
        return self.opened.greeting

    @property
    def gone(self) -> asyncio.Future[str]:
        return self.relay.gone

    @property
    def in_flight(self) -> int:
        return self.relay.in_flight

    @property
    def unanswered_since(self) -> float | None:
        return self.relay.unanswered_since

    @property
    def list_changes(self) -> int:
        return self.relay.list_changes

    async def call(self, method: str, params: bytes | Raw, *, seconds: float) -> Answer:
        return await self.relay.call(method, params, seconds=seconds)

    def notify(self, method: str, params: bytes | Raw) -> None:
        self.relay.notify(method, params)

    async def check(self, *, seconds: float) -> None:
        await eras.check(self.relay, self.era, seconds=seconds)

    async def quiet(self) -> None:
        await self.relay.quiet()

    async def stop(self, grace: float) -> None:
        await self.relay.stop(grace)
        await self.sandbox.remove()
        self.release()

    def kill(self, reason: str) -> None:
        self.relay.kill(reason)


class LocalEngine(HostedEngine):
    """To be used in the main thread of a process; as root, every server gets a user of its own."""

    def __init__(
        self,
        settings: Settings,
        *,
        rules: Rules = RULES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._clock = settings, clock
        self._limiter = cgroups.find(settings.name)
        self._clearing: set[asyncio.Task[None]] = set()
        self._probing: asyncio.Task[Capabilities] | None = None
        instances = Instances(self._launch, memory=settings.memory, rules=rules, clock=clock)
        super().__init__(instances, socket=settings.socket, bearer=settings.bearer)

    async def probe(self) -> Capabilities:
        if self._probing is None:
            self._probing = asyncio.create_task(self._try_everything())
        return await asyncio.shield(self._probing)

    async def _try_everything(self) -> Capabilities:
        user = self._take_user("")
        try:
            return await probing.probe(
                self._limiter,
                runtime=self._settings.runtime,
                user=user,
                allows_unsafe=self._settings.allows_unsafe,
            )
        finally:
            self._release_user("")

    async def stop(self, instance: str) -> None:
        await super().stop(instance)
        await self._cleared()

    async def close(self, grace: float) -> None:
        await super().close(grace)
        await self._cleared()
        if self._probing is not None:
            await asyncio.wait([self._probing])
        self._limiter.close()

    async def _launch(self, spec: RunSpec, name: str, log: Log) -> Connection:
        """Raises `Died`, whatever goes wrong before the server answers, and `NoRoom`; leaves nothing behind."""
        server = f"{spec.tenant}/{spec.server}"
        user = self._take_user(server)
        try:
            sandbox = await self._started(spec, name, user)
        except BaseException:
            self._release_user(server)
            raise
        return await self._opened(spec, sandbox, log, lambda: self._release_user(server))

    async def _opened(
        self, spec: RunSpec, sandbox: Sandbox, log: Log, release: Callable[[], None]
    ) -> Connection:
        relay = Relay(
            sandbox.process, spec.limits, log, sandbox.kill, explain=sandbox.explain, clock=self._clock
        )
        try:
            async with asyncio.timeout(spec.limits.start):
                opened = await eras.open_up(relay, spec.era, seconds=spec.limits.start)
            self._limiter.set_cpu(sandbox.name, spec.limits.cpu)
        except BaseException as error:
            # A task of its own: whoever stops us a second time must not stop the cleaning.
            await asyncio.shield(self._clear(relay, sandbox, release))
            if isinstance(error, Refused | TimeoutError | eras.Unintelligible):
                raise _start_failure(error, spec, log) from None
            raise
        return Sandboxed(relay, opened, sandbox, release)

    def _clear(self, relay: Relay, sandbox: Sandbox, release: Callable[[], None]) -> asyncio.Task[None]:
        async def clear() -> None:
            await relay.stop(0)
            await sandbox.remove()
            release()

        task = asyncio.create_task(clear())
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)
        return task

    async def _cleared(self) -> None:
        if self._clearing:
            await asyncio.wait(self._clearing)

    async def _started(self, spec: RunSpec, name: str, user: int | None) -> Sandbox:
        try:
            plan = launcher.plan_for(spec, self._settings.runtime)
            return await process.start(plan, name=name, limiter=self._limiter, user=user)
        except (launcher.Unprepared, seccomp.Unsupported) as error:
            raise Died(str(error), log=[]) from None

    def _take_user(self, server: str) -> int | None:
        if os.geteuid() != 0:
            return None
        try:
            return self._settings.users.take(server)
        except LookupError as error:
            raise NoRoom(str(error), retry_after=5.0) from None

    def _release_user(self, server: str) -> None:
        if os.geteuid() == 0:
            self._settings.users.release(server)


def _start_failure(error: BaseException, spec: RunSpec, log: Log) -> Died:
    if isinstance(error, Died):
        return error
    if isinstance(error, eras.Unintelligible):
        why = str(error)
    else:
        why = f"it has not answered within {spec.limits.start:g} s"
    return Died(f"The server cannot be used: {why}.", reason=why, log=log.tail())
