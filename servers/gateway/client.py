"""The client at the other end of a request, as one who may leave, and who may be told of a call while it runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec

from servers.gateway.events import EventStream
from servers.gateway.request import Receive, Send
from servers.pipeline.call import Call
from servers.protocol import modern
from servers.protocol.revisions import MODERN
from servers.runtimes.alarms import TimeLimit

# Log messages that are told of one call. Progress is bounded by those whom it comes from.
MOST_LOGS = 1_000
# Of progress messages and names of loggers, in characters; and of a progress token, which is repeated in each message.
MOST_TEXT, MOST_TOKEN = 2_000, 256
_INT64 = 1 << 63
# Whoever tells something waits no longer than this for a client that does not read, and then tells it nothing more:
# else such a client would hold a place at the upstream, and its time running out would look like the upstream's fault.
TELL_SECONDS = 1.0


class Client:
    """Of one HTTP request. `events` is None until something is said before the answer."""

    __slots__ = ("_send", "events", "receive")

    def __init__(self, receive: Receive, send: Send | None) -> None:
        """Without `send` the answer is one of several in a body, and nothing can be said before it."""
        self.receive = receive
        self.events: EventStream | None = None
        self._send = send

    def listener(self, call: Call) -> Listener | None:
        """Who hears of the call while it runs; None when the client does not want that, or cannot take a stream."""
        meta = call.params.get("_meta")
        told = meta if isinstance(meta, dict) else {}
        token = _token(told.get("progressToken"))
        level = told.get(modern.LOG_LEVEL, "") if call.revision == MODERN else call.log_level
        takes_streams = "text/event-stream" in call.headers.get("accept", "")
        if self._send is None or not takes_streams or (token is None and not level):
            return None
        self.events = self.events or EventStream(self._send, call.request_id)
        return Listener(self.events, token, level)

    @property
    def heard_bytes(self) -> int:
        """What was said before the answer, in bytes."""
        return 0 if self.events is None else self.events.sent_bytes


@dataclass(slots=True)
class Listener:
    """`servers.runtimes.base.Listener` of a client that reads a stream. The token is the client's own."""

    events: EventStream
    token: int | str | None
    log_level: str
    logs_left: int = MOST_LOGS
    is_deaf: bool = False

    @property
    def wants_progress(self) -> bool:
        return self.token is not None

    async def progress(self, progress: float, total: float | None = None, message: str = "") -> None:
        params: dict[str, Any] = {"progressToken": self.token, "progress": _number(progress)}
        if total is not None:
            params["total"] = _number(total)
        if message:
            params["message"] = message[:MOST_TEXT]
        await self._tell("notifications/progress", params)

    async def log(self, level: str, data: Any, logger: str = "") -> None:
        if not self.logs_left:
            return
        self.logs_left -= 1
        named = {"logger": logger[:MOST_TEXT]} if logger else {}
        await self._tell("notifications/message", {"level": level, **named, "data": data})

    async def _tell(self, method: str, params: dict[str, Any]) -> None:
        if self.is_deaf:
            return
        message = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params})
        try:
            with TimeLimit(asyncio.get_running_loop().time() + TELL_SECONDS):
                await self.events.message(message)
        except TimeoutError:
            self.is_deaf = True


def _token(said: object) -> int | str | None:
    """None for what cannot be a token, or is too long for one."""
    if isinstance(said, str):
        return said if len(said) <= MOST_TOKEN else None
    is_number = isinstance(said, int) and not isinstance(said, bool)
    return said if is_number and -_INT64 <= said < _INT64 else None  # type: ignore[operator, return-value]


def _number(value: float) -> float:
    """Whole numbers without a point, as most who count write them."""
    return int(value) if float(value).is_integer() else value
