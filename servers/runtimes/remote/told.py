"""What an upstream says of a request while it works on it: progress and log messages, told on to who listens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from servers.protocol.modern import LOG_LEVELS
from servers.runtimes.base import Listener

PROGRESS, LOG = "notifications/progress", "notifications/message"


class _Progress(msgspec.Struct, rename="camel", gc=False):
    progress_token: int | str
    progress: float
    total: float | None = None
    message: str | None = None


class _Log(msgspec.Struct, gc=False):
    level: str
    data: Any = None
    logger: str | None = None


class _Notification(msgspec.Struct, gc=False):
    params: msgspec.Raw = msgspec.Raw(b"{}")


_notification = msgspec.json.Decoder(_Notification)
_progress = msgspec.json.Decoder(_Progress)
_log = msgspec.json.Decoder(_Log)


class Told:
    """For one request, whose id is its progress token at the upstream.

    What is malformed, of another request, less severe than what is wanted, or no progress is passed over: the
    specification lets a receiver do so, and the answer is worth more than the news of it.
    """

    def __init__(self, listener: Listener, request_id: int) -> None:
        self._listener = listener
        self._request_id = request_id
        self._severity = severity(listener.log_level)
        self._reached = -math.inf

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the request's `_meta` says of it, whatever the era."""
        return {"progressToken": self._request_id} if self._listener.wants_progress else {}

    @property
    def log_level(self) -> str:
        return self._listener.log_level

    async def hear(self, method: str, message: bytes) -> None:
        try:
            params = _notification.decode(message).params
            if method == PROGRESS:
                await self._progress(_progress.decode(params))
            elif method == LOG:
                await self._logged(_log.decode(params))
        except (msgspec.MsgspecError, RecursionError):
            pass

    async def _progress(self, said: _Progress) -> None:
        is_ours = said.progress_token in (self._request_id, str(self._request_id))
        if not (self._listener.wants_progress and is_ours and said.progress > self._reached):
            return
        self._reached = said.progress
        await self._listener.progress(said.progress, said.total, said.message or "")

    async def _logged(self, said: _Log) -> None:
        if said.level in LOG_LEVELS and severity(said.level) >= self._severity:
            await self._listener.log(said.level, said.data, said.logger or "")


def severity(level: str) -> float:
    """Compares levels (RFC 5424); "", which is none, is above all of them."""
    return LOG_LEVELS.index(level) if level in LOG_LEVELS else math.inf


def told_of(listener: Listener | None, request_id: int) -> Told | None:
    return None if listener is None else Told(listener, request_id)
