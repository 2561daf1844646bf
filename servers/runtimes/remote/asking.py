"""A request to an upstream, whatever it speaks, and what can carry it there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import msgspec

from servers.runtimes.base import Listener
from servers.runtimes.remote.endpoint import SHARED, Headers, Identity

Json = dict[str, Any]


class Era(Enum):
    """What an upstream speaks."""

    MODERN = "modern"  # 2026-07-28: each request by itself
    HANDSHAKE = "handshake"  # Streamable HTTP, 2025-03-26 to 2025-11-25: a session
    STREAM = "stream"  # HTTP+SSE, 2024-11-05: a session that is a stream


class Ask(msgspec.Struct, frozen=True, gc=False):
    """One request. `limit` bounds the answer's bytes; `mirrored` are the Mcp-Param-* headers, for the modern era.

    `deadline` is on the event loop's clock; what is left until then is told to the upstream where its transport allows.
    `listener` hears what the upstream says of the request before it answers.
    """

    method: str
    params: Json
    limit: int
    identity: Identity = SHARED
    mirrored: Headers = ()
    deadline: float = 0.0
    listener: Listener | None = None

    def seconds_left(self) -> float:
        return self.deadline - asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class About:
    """What an upstream says of itself: for display, but for the first two. `capabilities` is None when unsaid."""

    era: Era
    revision: str
    name: str = ""
    version: str = ""
    title: str = ""
    instructions: str = ""
    capabilities: Mapping[str, Any] | None = None


class Session(Protocol):
    """An initialized session at an upstream of the handshake eras. Many calls may be under way in it at once."""

    @property
    def about(self) -> About: ...

    @property
    def is_lost(self) -> bool:
        """True once it cannot carry another request."""

    async def ask(self, ask: Ask) -> tuple[int, bytes]:
        """The id given to the request and the message that answers it. Raises CallFailed, SessionLost among it."""

    def leave(self) -> None:
        """Let go of what it holds here. A call in it fails."""

    async def close(self) -> None:
        """Leave, and end it at the upstream too, as well as that can be done. Raises CallFailed."""
