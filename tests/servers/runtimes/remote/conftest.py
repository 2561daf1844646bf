"""A client of a scripted server, and calls of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from servers.runtimes.base import Outcome
from servers.runtimes.remote.client import RemoteClient
from servers.runtimes.remote.endpoint import Endpoint
from servers.runtimes.upstreams import Upstreams
from tests.servers.runtimes.remote.peers import Peer, modern, peer_running


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """A modern server until a test makes it another one."""
    async with peer_running(modern) as running:
        yield running


@dataclass
class Caller:
    client: RemoteClient
    seconds: float = 5
    limit: int = 100_000

    @property
    def deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.seconds

    async def __call__(self, text: str = "hello", tool: str = "echo", **how: Any) -> Outcome:
        bounds: dict[str, Any] = {"deadline": self.deadline, "limit": self.limit}
        return await self.client.call_tool(tool, {"text": text}, **bounds | how)


@pytest.fixture
async def call(peer: Peer, upstreams: Upstreams) -> AsyncIterator[Caller]:
    """`await call("hello")` calls the tool echo."""
    client = RemoteClient(Endpoint(peer.url), upstreams.get("acme", peer.url))
    yield Caller(client)
    await client.close()
