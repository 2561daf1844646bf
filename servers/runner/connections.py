"""What the life of an instance knows of whatever runs it: how it is started and how it is spoken to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from msgspec import Raw

from servers.runner.engine import Era, RunSpec
from servers.runner.logs import Log
from servers.runner.relay import Answer


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


class Prepared(Protocol):
    """A process that is up and waits for its first message before it runs anything of the version itself."""

    @property
    def gone(self) -> asyncio.Future[str]: ...

    async def open(self) -> Connection:
        """Wait until it answers. Raises `Died` when it does not, `Missing` or `Tampered`, and leaves nothing then."""

    async def drop(self) -> None:
        """End it; it has served nobody."""


class Launch(Protocol):
    """Prepare a process of a version. Raises `Died`, `Missing`, `Tampered` or `NoRoom`, and leaves nothing then."""

    def __call__(self, spec: RunSpec, name: str, log: Log) -> Coroutine[Any, Any, Prepared]: ...
