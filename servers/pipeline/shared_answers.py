"""Remembered answers that every process sees, in Redis."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis.asyncio
import structlog
from redis.exceptions import RedisError

T = TypeVar("T")
PREFIX = b"mooring:answer:"
# An answer that takes longer to find than this is made anew: Redis must never be what a call waits for.
SECONDS = 0.05
# After a failure Redis is left alone for a while, so that each call does not find out for itself.
PAUSE_SECONDS = 5.0
CONNECTIONS = 16
_log = structlog.get_logger(__name__)


class RedisAnswers:
    """A `servers.pipeline.caching.SharedAnswers`. Used on one event loop; `close` it there."""

    def __init__(self, url: str, *, seconds: float = SECONDS) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            url, max_connections=CONNECTIONS, socket_timeout=1.0, socket_connect_timeout=1.0
        )
        self._seconds = seconds
        self._back_at = 0.0

    async def get(self, key: bytes) -> bytes | None:
        found = await self._tried(lambda: self._redis.get(PREFIX + key))
        return found if isinstance(found, bytes) else None

    async def put(self, key: bytes, value: bytes, seconds: float) -> None:
        await self._tried(lambda: self._redis.set(PREFIX + key, value, ex=math.ceil(seconds)))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _tried(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        if time.monotonic() < self._back_at:
            return None
        try:
            async with asyncio.timeout(self._seconds):
                return await ask()
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            self._back_at = time.monotonic() + PAUSE_SECONDS
            _log.warning("answers.redis_away", error=type(error).__name__)
            return None
