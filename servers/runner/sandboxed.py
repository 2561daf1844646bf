"""A server in its sandbox, before and after it has answered for the first time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from msgspec import Raw

from servers.runner import eras
from servers.runner.connections import Connection
from servers.runner.engine import Era, RunSpec
from servers.runner.errors import Died, Refused
from servers.runner.logs import Log
from servers.runner.relay import Answer, Relay

Track = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


@dataclass(slots=True)
class Sandboxed:
    """A server that runs (`connections.Connection`). `stack` ends it and gives back what it had; `track` runs that in
    a task which nobody stops.
    """

    relay: Relay
    opened: eras.Opened
    stack: AsyncExitStack
    track: Track

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
        await asyncio.shield(self.track(self._end(grace)))

    async def _end(self, grace: float) -> None:
        await self.relay.stop(grace)
        await self.stack.aclose()

    def kill(self, reason: str) -> None:
        self.relay.kill(reason)


@dataclass(slots=True)
class Waiting:
    """A process that has not been asked anything (`connections.Prepared`).

    `check` is done before it is asked, `ready` is told the era it was found to speak.
    """

    spec: RunSpec
    relay: Relay
    log: Log
    stack: AsyncExitStack
    check: Callable[[], Awaitable[None]]
    ready: Callable[[Era], Awaitable[None]]
    track: Track

    @property
    def gone(self) -> asyncio.Future[str]:
        return self.relay.gone

    async def drop(self) -> None:
        await asyncio.shield(self.track(self.stack.aclose()))

    async def open(self) -> Connection:
        try:
            await self.check()
            async with asyncio.timeout(self.spec.limits.start):
                opened = await eras.open_up(self.relay, self.spec.era, seconds=self.spec.limits.start)
            await self.ready(opened.era)
        except BaseException as error:
            await self.drop()
            if isinstance(error, eras.Unintelligible | TimeoutError | Refused):
                raise self._failure(error) from None
            raise
        return Sandboxed(self.relay, opened, self.stack, self.track)

    def _failure(self, error: eras.Unintelligible | TimeoutError | Refused) -> Refused:
        if isinstance(error, Refused) and error.code not in {"timed_out", "too_large", "busy"}:
            return error
        why = f"it has not answered within {self.spec.limits.start:g} s"
        if isinstance(error, eras.Unintelligible):
            why = self.log.masked(str(error))
        return Died(f"The server cannot be used: {why}.", reason=why, log=self.log.tail())
