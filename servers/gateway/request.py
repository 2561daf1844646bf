"""Reading an ASGI request: the headers that matter, and a body under a limit and a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from mooring.errors import ClientError, TooLarge, Unavailable
from servers.gateway.direct import Direct
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
        b"mooring-hops",
        b"origin",
    )
}


_LISTS = frozenset({"accept", "accept-encoding"})
_PARAMETER = b"mcp-param-"
_NONE: frozenset[str] = frozenset()


class Disconnected(Exception):
    """The client went away before its request was complete."""


def wanted_headers(raw: Iterable[tuple[bytes, bytes]]) -> tuple[dict[str, str], frozenset[str]]:
    """Headers we use, by lower-case name, and the names of those that came more than once."""
    kept = [
        (text, value.decode("latin-1").strip(" \t"))
        for name, value in raw
        if (text := _WANTED.get(name) or (name[:10] == _PARAMETER and name.decode("latin-1")))
    ]
    found = dict(kept)
    return (found, _NONE) if len(found) == len(kept) else _merged(kept)


def _merged(kept: Iterable[tuple[str, str]]) -> tuple[dict[str, str], frozenset[str]]:
    """Of headers that came more than once the last counts; lists may come on several lines (RFC 9110, 5.3)."""
    found: dict[str, str] = {}
    duplicated = _NONE
    for name, said in kept:
        if name in found:
            duplicated |= {name}
            said = f"{found[name]}, {said}" if name in _LISTS else said
        found[name] = said
    return found, duplicated


def forwarded_for(raw: Iterable[tuple[bytes, bytes]]) -> str:
    """X-Forwarded-For as one list, over however many lines it came."""
    return ",".join(value.decode("latin-1") for name, value in raw if name == b"x-forwarded-for")


class Bodies:
    """What the bodies of all requests take in memory together, each from its first bytes to its answer."""

    def __init__(self, most: int = MOST_BODY_BYTES) -> None:
        self.most = most
        self.held = 0

    async def read(
        self, receive: Receive, headers: Mapping[str, str], limit: int, *, direct: Direct | None = None
    ) -> bytes:
        """A whole body of at most `limit` bytes; call `release` with its size when it is no longer needed.

        Raises `TooLarge` (413), `SlowBody` (408) when it dribbles in, `TooBusy` (503) and `Disconnected`.
        """
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared[:20]) > limit:
            raise _too_large(limit)
        body = None if direct is None else direct.body()
        if body is not None:
            if len(body) > limit:
                raise _too_large(limit)
            self._take(len(body))
            return body
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
