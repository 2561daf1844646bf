"""Reading an ASGI request: the headers that matter, and a body under a limit and a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from mooring.errors import ClientError, TooLarge, Unavailable
from servers.runtimes.alarms import TimeLimit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_SECONDS = 30.0
MOST_BODY_BYTES = 256 * 1024 * 1024
_WANTED = {
    name: name.decode()
    for name in (
        b"accept",
        b"accept-encoding",
        b"authorization",
        b"content-length",
        b"content-type",
        b"host",
        b"mcp-method",
        b"mcp-name",
        b"mcp-protocol-version",
        b"mcp-session-id",
        b"origin",
    )
}


_LISTS = frozenset({"accept", "accept-encoding"})
_NONE: frozenset[str] = frozenset()


class Disconnected(Exception):
    """The client went away before its request was complete."""


def wanted_headers(raw: Iterable[tuple[bytes, bytes]]) -> tuple[dict[str, str], frozenset[str]]:
    """Headers we use, by lower-case name, and the names of those that came more than once."""
    found: dict[str, str] = {}
    duplicated = _NONE
    for name, value in raw:
        if name in _WANTED:
            text = _WANTED[name]
        elif name[:10] == b"mcp-param-":
            text = name.decode("latin-1")
        else:
            continue
        said = value.decode("latin-1").strip(" \t")
        if text in found:
            duplicated |= {text}
            # Lists may come on several lines (RFC 9110, 5.3).
            said = f"{found[text]}, {said}" if text in _LISTS else said
        found[text] = said
    return found, duplicated


class Bodies:
    """What the bodies of all requests take in memory together, each from its first bytes to its answer."""

    def __init__(self, most: int = MOST_BODY_BYTES) -> None:
        self.most = most
        self.held = 0

    async def read(self, receive: Receive, headers: Mapping[str, str], limit: int) -> bytes:
        """A whole body of at most `limit` bytes; call `release` with its size when it is no longer needed.

        Raises `TooLarge` (413), `SlowBody` (408) when it dribbles in, `TooBusy` (503) and `Disconnected`.
        """
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared[:20]) > limit:
            raise _too_large(limit)
        try:
            with TimeLimit(asyncio.get_running_loop().time() + BODY_SECONDS):
                return await self._whole(receive, limit)
        except TimeoutError:
            raise SlowBody(f"The body did not arrive within {BODY_SECONDS:g} s.") from None

    def release(self, size: int) -> None:
        self.held -= size

    async def _whole(self, receive: Receive, limit: int) -> bytes:
        size, earlier = 0, bytearray()
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                part: bytes = message.get("body", b"")
                self._take(len(part))
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                if not message.get("more_body"):
                    return bytes(earlier + part) if earlier else part
                earlier += part
        except BaseException:
            self.release(size)
            raise

    def _take(self, size: int) -> None:
        if self.held + size > self.most:
            raise TooBusy("Too many large messages are being read at once. Try again in a moment.")
        self.held += size


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes.", limit=limit)


class TooBusy(Unavailable):
    code = "too_busy"


class SlowBody(ClientError):
    code = "slow_body"
    status = 408


async def until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
