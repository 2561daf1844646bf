"""An engine whose instances live in this process's care, reached through one socket (`servers.runner.serving`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from servers.runner.connections import Connection
from servers.runner.engine import (
    BuildResult,
    BuildSpec,
    Capabilities,
    Endpoint,
    Heard,
    InstanceInfo,
    LogLine,
    RunSpec,
)
from servers.runner.errors import Unsafe
from servers.runner.instances import Instances


class HostedEngine(ABC):
    """`socket` is where the instances are served, `bearer` what callers of it must show."""

    def __init__(self, instances: Instances, *, socket: Path, bearer: str) -> None:
        self._instances = instances
        self._socket, self._bearer = socket, bearer

    @abstractmethod
    async def probe(self) -> Capabilities:
        """What is enforced here; tried once."""

    @abstractmethod
    async def _built(self, spec: BuildSpec, upload: bytes, heard: Heard) -> BuildResult: ...

    async def build(self, spec: BuildSpec, upload: bytes, heard: Heard = lambda _: None) -> BuildResult:
        await self._refuse_unsafe()
        return await self._built(spec, upload, heard)

    async def ensure(self, spec: RunSpec, session: str = "", opened: int = 0) -> Endpoint:
        await self._refuse_unsafe()
        instance = await self._instances.ensure(spec, session, opened)
        connection = await self._instances.connected(instance.key)
        return Endpoint(
            instance=instance.key,
            url=f"http://runner/instances/{instance.key}/mcp",
            bearer=self._bearer,
            socket=str(self._socket),
            era=connection.era,
        )

    async def _refuse_unsafe(self) -> None:
        capabilities = await self.probe()
        if not capabilities.is_safe and not capabilities.allows_unsafe:
            raise Unsafe("This machine cannot hold strangers' code.", missing=list(capabilities.missing))

    async def connected(self, instance: str) -> Connection:
        """For serving: the connection behind an endpoint, woken if need be."""
        return await self._instances.connected(instance)

    def limits_of(self, instance: str) -> tuple[float, int]:
        """Seconds a call may take, and bytes a message may have. Raises `Unknown`."""
        limits = self._instances.find(instance).spec.limits
        return limits.call, limits.line

    async def drain(self, instance: str, deadline: float | None = None) -> None:
        await self._instances.drain(instance, deadline)

    async def stop(self, instance: str) -> None:
        await self._instances.stop(instance)

    async def instances(self, tenant: str = "") -> list[InstanceInfo]:
        return self._instances.infos(tenant)

    async def logs(self, instance: str, after: int = 0) -> list[LogLine]:
        return self._instances.logs(instance, after)

    async def server_logs(self, tenant: str, server: str, after: int = 0) -> list[LogLine]:
        return self._instances.server_logs.after(tenant, server, after)

    @abstractmethod
    async def keep(self, digests: Iterable[str]) -> list[str]:
        """Remove what was not wanted for long, but for these."""

    @abstractmethod
    async def missing(self, digests: Iterable[str]) -> list[str]:
        """Those that cannot be run."""

    @abstractmethod
    async def stand_in(self, digest: str, by: str) -> None:
        """Run `by` where `digest` is asked for."""

    async def reconcile(self) -> None:
        self._instances.tend()

    async def close(self, grace: float) -> None:
        await self._instances.close(grace)
