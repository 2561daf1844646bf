"""The engine that runs code on this machine, one sandbox an instance."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from servers.runner.building.builds import Builder, Source
from servers.runner.building.doors import Doors
from servers.runner.connections import Prepared
from servers.runner.egress import Lookup, Permits, ask_the_system, nowhere
from servers.runner.engine import BuildEvent, BuildResult, BuildSpec, Capabilities, Era, Heard, RunSpec
from servers.runner.errors import Died, NoRoom
from servers.runner.hosted import HostedEngine
from servers.runner.instance import RULES, Rules
from servers.runner.instances import Instances
from servers.runner.logs import Log
from servers.runner.relay import Relay
from servers.runner.sandbox import cgroups, launcher, probing, process, seccomp
from servers.runner.sandbox.launcher import Tree
from servers.runner.sandbox.process import Sandbox
from servers.runner.sandbox.users import Users
from servers.runner.sandboxed import Waiting


@dataclass(frozen=True, slots=True)
class Settings:
    """`folder` holds the socket, `memory` is the budget of all instances in bytes, `users` only root can use.

    `store` is where artifacts and environments are: a folder that every user of the machine may enter, and only we
    write to; None for one below `folder`. `python` is the interpreter for uploads that the operator has chosen.
    `permits` says which addresses servers may reach at all, `lookup` what a name means.
    """

    folder: Path
    memory: int
    bearer: str
    allows_unsafe: bool = False
    store: Path | None = None
    python: str = ""
    permits: Permits = nowhere
    lookup: Lookup = ask_the_system
    runtime: str = field(default_factory=launcher.default_runtime)
    users: Users = field(default_factory=Users)

    @property
    def name(self) -> str:
        """Of the runner's control group."""
        return name_of(self.folder)

    @property
    def socket(self) -> Path:
        return self.folder / "runner.sock"


def name_of(folder: Path) -> str:
    """Of the runner in this folder: the same after a restart, different for two on one machine."""
    return f"mooring-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"


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
        store = settings.store or settings.folder / "store"
        self._doors = Doors(store / "doors", settings.permits, settings.lookup)
        self._builder = Builder(
            store, self._limiter, settings.users, doors=self._doors, python=settings.python
        )
        self._builder.clear()
        self._clearing: set[asyncio.Task[None]] = set()
        self._probing: asyncio.Task[Capabilities] | None = None
        instances = Instances(self._launch, memory=settings.memory, rules=rules, clock=clock)
        super().__init__(instances, socket=settings.socket, bearer=settings.bearer)

    async def probe(self) -> Capabilities:
        if self._probing is None:
            self._probing = asyncio.create_task(self._try_everything())
        return await asyncio.shield(self._probing)

    async def _try_everything(self) -> Capabilities:
        with self._user("") as user:
            found = await probing.probe(
                self._limiter,
                runtime=self._settings.runtime,
                user=user,
                allows_unsafe=self._settings.allows_unsafe,
            )
        return msgspec.structs.replace(found, missing=(*found.missing, *await self._builder.missing()))

    async def _built(self, spec: BuildSpec, upload: bytes, heard: Heard) -> BuildResult:
        source = Source(upload, **msgspec.structs.asdict(spec))
        built = await self._builder.build(
            source, lambda event: heard(BuildEvent(event.stage, event.line, time.time()))
        )
        return built.result

    async def keep(self, digests: Iterable[str]) -> list[str]:
        return await self._builder.tidy({*digests, *self._instances.digests})

    async def missing(self, digests: Iterable[str]) -> list[str]:
        return await self._builder.lost(digests)

    async def stand_in(self, digest: str, by: str) -> None:
        await self._builder.stand_in(digest, by)

    async def stop(self, instance: str) -> None:
        await super().stop(instance)
        await self._cleared()

    async def close(self, grace: float) -> None:
        await super().close(grace)
        await self._cleared()
        if self._probing is not None:
            await asyncio.wait([self._probing])
        self._limiter.close()

    # ---- starting ----------------------------------------------------------------------------------------

    async def _launch(self, spec: RunSpec, name: str, log: Log) -> Prepared:
        ready = await self._resolved(spec)
        async with AsyncExitStack() as stack:
            user = stack.enter_context(self._user(f"{spec.tenant}/{spec.server}"))

            def shut(line: str) -> None:
                log.add("runner", line)

            door = await stack.enter_async_context(self._doors.opened(spec.hosts, user=user, tell=shut))
            sandbox = await self._started(ready, name, user, door)
            stack.push_async_callback(sandbox.remove)
            relay = Relay(
                sandbox.process, spec.limits, log, sandbox.kill, explain=sandbox.explain, clock=self._clock
            )
            stack.push_async_callback(relay.stop, 0)
            return self._waiting(spec, ready, sandbox, relay, log, stack.pop_all())

    def _waiting(
        self, spec: RunSpec, ready: RunSpec, sandbox: Sandbox, relay: Relay, log: Log, stack: AsyncExitStack
    ) -> Waiting:
        async def check() -> None:
            # It may have waited for long, and reads the version's files only now.
            await self._resolved(spec)

        async def answers(era: Era) -> None:
            self._limiter.set_cpu(sandbox.name, spec.limits.cpu)
            if not spec.artifact and ready.era == "probe":
                await asyncio.to_thread(self._builder.shelf.put, spec.digest, era)

        return Waiting(ready, relay, log, stack, check, answers, self._track)

    async def _resolved(self, spec: RunSpec) -> RunSpec:
        """With its artifact, which is checked before every start. Raises `Missing` and `Tampered`."""
        if spec.artifact:
            return spec
        artifact = await self._builder.opened(spec.digest)
        era = await asyncio.to_thread(self._builder.shelf.wanted, spec.digest)
        return msgspec.structs.replace(
            spec,
            artifact=str(artifact.folder),
            entry=artifact.entry,
            runtime=artifact.runtime,
            era=era if era and spec.era == "probe" else spec.era,
        )

    async def _started(self, spec: RunSpec, name: str, user: int | None, others: list[Tree]) -> Sandbox:
        try:
            plan = launcher.plan_for(spec, self._settings.runtime, others)
            group = cgroups.name_for(spec.tenant, name)
            return await process.start(plan, name=group, limiter=self._limiter, user=user)
        except (launcher.Unprepared, seccomp.Unsupported) as error:
            raise Died(str(error), log=[]) from None

    @contextmanager
    def _user(self, server: str) -> Iterator[int | None]:
        """Who a server becomes on this machine. Raises `NoRoom`."""
        if os.geteuid() != 0:
            yield None
            return
        try:
            user = self._settings.users.take(server)
        except LookupError as error:
            raise NoRoom(str(error), retry_after=5.0) from None
        try:
            yield user
        finally:
            self._settings.users.release(server)

    # ---- ending ------------------------------------------------------------------------------------------

    def _track(self, cleaning: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """In a task of its own: whoever stops us a second time must not stop the cleaning."""
        task = asyncio.create_task(cleaning)
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)
        return task

    async def _cleared(self) -> None:
        if self._clearing:
            await asyncio.wait(self._clearing)
