"""The HTTP under every transport: requests to one endpoint, and their answers within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import aiohttp
from yarl import URL

from servers.runtimes import hops
from servers.runtimes.remote.bounds import (
    ERROR_BYTES,
    FRAME_BYTES,
    LINGER_SECONDS,
    LINGERING,
    MESSAGES,
    REFUSALS,
    STRAYS,
    STREAM_BYTES,
    STREAM_FACTOR,
)
from servers.runtimes.remote.endpoint import Endpoint, Identity, Introduction, merged
from servers.runtimes.remote.errands import Errands
from servers.runtimes.remote.events import EventReader, TooLarge
from servers.runtimes.remote.failures import (
    BadStatus,
    CallFailed,
    Unreachable,
    broken_off,
    invalid,
    too_large,
)
from servers.runtimes.remote.messages import Head, error_in, heads
from servers.runtimes.remote.told import Told
from servers.runtimes.upstreams import Upstream

BOTH = "application/json, text/event-stream"
_POSTED = {"Accept": BOTH, "Content-Type": "application/json"}
_STREAMED = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
Refuse = Callable[[Head], Awaitable[None]]


class Wire:
    """`errands` and `introduction` are here because every transport needs them."""

    def __init__(self, endpoint: Endpoint, upstream: Upstream, introduction: Introduction) -> None:
        self.endpoint = endpoint
        self.upstream = upstream
        self.introduction = introduction
        self.url = URL(endpoint.url).with_fragment(None)
        self.errands = Errands()
        self._lingering: dict[aiohttp.ClientResponse, asyncio.TimerHandle] = {}

    def posted(self, identity: Identity, own: Mapping[str, str]) -> Any:
        """Headers of a POST; to be made once and used again and again."""
        return merged(self.endpoint, identity, {**_POSTED, **own})

    def streamed(self, identity: Identity, own: Mapping[str, str]) -> Any:
        """Headers of a GET for an event stream."""
        return merged(self.endpoint, identity, {**_STREAMED, **own})

    async def send(
        self, method: str, headers: Any, body: bytes | None = None, url: URL | None = None
    ) -> aiohttp.ClientResponse:
        """Raises CallFailed."""
        try:
            return await self.upstream.session.request(
                method, url or self.url, headers=hops.counted(headers), data=body, allow_redirects=False
            )
        except (aiohttp.ClientConnectionError, OSError):
            raise Unreachable from None
        except aiohttp.ClientError:
            raise invalid("The upstream's answer was not valid HTTP.") from None

    async def tell(self, headers: Any, body: bytes, url: URL | None = None) -> None:
        """POST what gets no answer. Raises CallFailed, BadStatus among it."""
        response = await self.send("POST", headers, body, url)
        if response.status >= 300:
            raise await _refusal(response, 0)
        await _drained(response)

    async def end(self, headers: Any) -> None:
        response = await self.send("DELETE", headers)
        await _drained(response)

    async def answer(
        self,
        response: aiohttp.ClientResponse,
        request_id: int,
        limit: int,
        refuse: Refuse | None = None,
        told: Told | None = None,
    ) -> bytes:
        """The message that answers the request. `refuse` replies to requests of the upstream, where it may ask; `told`
        hears what it says before it answers.

        Raises CallFailed, BadStatus from 300 on, and StreamEnded when an event stream ended before the answer.
        """
        if response.status >= 300:
            raise await _refusal(response, request_id)
        kind = response.headers.get("Content-Type", "").lower().lstrip()
        if kind.startswith("application/json"):
            body = await read_body(response, limit)
            if body is None:
                raise too_large(limit)
            return body
        if kind.startswith("text/event-stream"):
            return await self.found(response, Search(request_id, limit), refuse, told)
        response.close()
        raise invalid("The upstream's answer is no MCP message.")

    async def found(
        self,
        response: aiohttp.ClientResponse,
        search: Search,
        refuse: Refuse | None,
        told: Told | None = None,
    ) -> bytes:
        """The answer on an event stream."""
        content = response.content
        try:
            while not content.at_eof():
                found, others = search.sift(await content.readany())
                if told is not None:
                    for head, message in others:
                        await told.hear(str(head.method), message)
                if found is not None:
                    self._let_end(response)
                    return found
                for head, _ in others:
                    if head.is_request and refuse is not None and search.may_refuse():
                        # That it did not like our refusal is no reason to miss its answer.
                        with suppress(CallFailed):
                            await refuse(head)
        except (aiohttp.ClientError, OSError):
            response.close()
            raise StreamEnded(search) from None
        except BaseException:
            response.close()
            raise
        raise StreamEnded(search)

    def _let_end(self, response: aiohttp.ClientResponse) -> None:
        """A stream that ends within a moment gives its connection back by itself; one that does not is cut."""
        if response.closed:
            return
        if len(self._lingering) >= LINGERING:
            response.close()
            return
        loop = asyncio.get_running_loop()
        self._lingering[response] = loop.call_later(LINGER_SECONDS, self._cut, response)
        response.content.on_eof(lambda: self._ended(response))

    def _cut(self, response: aiohttp.ClientResponse) -> None:
        self._lingering.pop(response, None)
        response.close()

    def _ended(self, response: aiohttp.ClientResponse) -> None:
        handle = self._lingering.pop(response, None)
        if handle is not None:
            handle.cancel()

    async def close(self) -> None:
        for response in list(self._lingering):
            self._ended(response)
            response.close()
        await self.errands.close()


class StreamEnded(Exception):
    """An event stream ended before the answer; `search` knows where it could be taken up again."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self.search = search


class Search:
    """Looks for the answer to one request among the messages of an event stream, as long as patience lasts."""

    def __init__(self, request_id: int, limit: int) -> None:
        self._request_id = request_id
        self._limit = limit
        self._bytes_left = limit * STREAM_FACTOR + STREAM_BYTES
        self._messages_left = MESSAGES
        self._strays_left = STRAYS
        self._refusals_left = REFUSALS
        self.events = EventReader(limit + FRAME_BYTES)

    def sift(self, chunk: bytes) -> tuple[bytes | None, list[tuple[Head, bytes]]]:
        """The answer, if it is there, and the upstream's requests and notifications before it. Raises CallFailed."""
        self._bytes_left -= len(chunk)
        if self._bytes_left < 0:
            raise too_large(self._limit)
        try:
            events = self.events.feed(chunk)
        except TooLarge:
            raise too_large(self._limit) from None
        others: list[tuple[Head, bytes]] = []
        for event in events:
            found = self._found(event.data, others) if event.data else None
            if found is not None:
                return found, others
        return None, others

    def may_refuse(self) -> bool:
        self._refusals_left -= 1
        return self._refusals_left >= 0

    def _found(self, data: bytes, others: list[tuple[Head, bytes]]) -> bytes | None:
        try:
            messages = heads(data)
        except ValueError:
            self._stray()
            return None
        for head, message in messages:
            self._messages_left -= 1
            if self._messages_left < 0:
                raise invalid(f"The upstream sent more than {MESSAGES:,} messages before its answer.")
            if head.is_answer and head.id == self._request_id:
                return message
            if head.is_answer or not head.method:
                self._stray()
            else:
                others.append((head, message))
        return None

    def _stray(self) -> None:
        self._strays_left -= 1
        if self._strays_left < 0:
            raise invalid(f"The upstream sent more than {STRAYS} messages that answer nothing.")


async def _refusal(response: aiohttp.ClientResponse, request_id: int) -> BadStatus:
    body = await read_body(response, ERROR_BYTES)
    error, is_ours = error_in(body, request_id) if body else (None, False)
    return BadStatus(response.status, error, is_ours=is_ours)


async def _drained(response: aiohttp.ClientResponse) -> None:
    """Read what nobody wants, so that the connection can be used again; much of it is not worth that."""
    kind = response.headers.get("Content-Type", "")
    if kind.lower().startswith("text/event-stream"):
        response.close()
        return
    await read_body(response, ERROR_BYTES)


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The body, or None when it is larger. Raises CallFailed when it breaks off."""
    content = response.content
    try:
        # readany gives what the decompressor has let out, 64 KiB and a little at a time: a bomb is never unpacked.
        body = await content.readany()
        if content.at_eof() and len(body) <= limit:
            return body
        chunks, size = [body], len(body)
        while size <= limit and not content.at_eof():
            chunks.append(await content.readany())
            size += len(chunks[-1])
    except (aiohttp.ClientError, OSError):
        response.close()
        raise broken_off() from None
    except BaseException:
        response.close()
        raise
    if size > limit:
        response.close()
        return None
    return b"".join(chunks)
