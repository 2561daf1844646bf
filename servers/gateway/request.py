"""Reading an ASGI request: the headers that matter, and a body under a limit and a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from mooring.errors import ClientError, TooLarge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_SECONDS = 30.0
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
    duplicated: set[str] = set()
    for name, value in raw:
        text = _WANTED.get(name)
        if text is None:
            if not name.startswith(b"mcp-param-"):
                continue
            text = name.decode("latin-1")
        said = value.decode("latin-1").strip(" \t")
        if text in found:
            duplicated.add(text)
            # Lists may come on several lines (RFC 9110, 5.3).
            said = f"{found[text]}, {said}" if text in _LISTS else said
        found[text] = said
    return found, frozenset(duplicated) if duplicated else _NONE


async def read_body(receive: Receive, headers: Mapping[str, str], limit: int) -> bytes:
    """Raises `TooLarge` (413), `ClientError` 408 for a body that dribbles in, and `Disconnected`."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    # A bare timer: `asyncio.timeout` costs more than reading a body that is there already, as nearly all are.
    task = asyncio.current_task()
    assert task is not None
    late = _Late()
    timer = asyncio.get_running_loop().call_later(BODY_SECONDS, late.cancel, task)
    try:
        return await _collected(receive, limit)
    except asyncio.CancelledError:
        if not late.is_set or task.uncancel() > 0:
            raise
        raise SlowBody(f"The body did not arrive within {BODY_SECONDS:g} s.") from None
    finally:
        timer.cancel()


class _Late:
    """Whether it was our timer that cancelled."""

    is_set = False

    def cancel(self, task: asyncio.Task[object]) -> None:
        self.is_set = True
        task.cancel()


async def _collected(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes.", limit=limit)


class SlowBody(ClientError):
    code = "slow_body"
    status = 408


async def until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
