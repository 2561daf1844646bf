"""Sessions of HTTP+SSE, 2024-11-05: one stream brings every answer, requests are posted beside it."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import aiohttp
from yarl import URL

from servers.protocol.revisions import NEWEST_HANDSHAKE
from servers.runtimes.remote.asking import About, Ask, Era
from servers.runtimes.remote.bounds import ADDRESS, MESSAGES, REFUSALS, SESSION_EVENT_BYTES, STRAYS
from servers.runtimes.remote.endpoint import Identity
from servers.runtimes.remote.events import Event, EventReader, TooLarge
from servers.runtimes.remote.failures import (
    BadStatus,
    CallFailed,
    Refused,
    SessionLost,
    broken_off,
    invalid,
    too_large,
)
from servers.runtimes.remote.handshake import INITIALIZE_BYTES, about, cancelled, common_revision, opening
from servers.runtimes.remote.messages import heads, notification, reply_to, request
from servers.runtimes.remote.wire import Wire


class StreamSession:
    """Its reader runs as long as the stream: one task a session, none a call."""

    about: About

    def __init__(self, wire: Wire, identity: Identity, response: aiohttp.ClientResponse) -> None:
        self._wire = wire
        self._response = response
        self._headers = wire.posted(identity, {})
        self._events = EventReader(SESSION_EVENT_BYTES)
        self._ids = count(1)
        self._awaited: dict[int, asyncio.Future[bytes]] = {}
        self._address: asyncio.Future[URL] = asyncio.get_running_loop().create_future()
        self._unmatched = self._refused = 0
        self.is_lost = False
        self._reader = asyncio.get_running_loop().create_task(self._read())

    # ---- requests ----------------------------------------------------------------------------------------

    async def begin(self, identity: Identity) -> None:
        """Wait for the address to post to, and initialize. Raises CallFailed."""
        try:
            self.about = await self._initialized(identity, NEWEST_HANDSHAKE)
        except Refused as refused:
            self.about = await self._initialized(identity, common_revision(refused))
        await self._post(notification("notifications/initialized", {}))

    async def _initialized(self, identity: Identity, revision: str) -> About:
        ask = Ask("initialize", opening(self._wire, identity, revision), INITIALIZE_BYTES)
        request_id, data = await self.ask(ask)
        return about(data, Era.STREAM, request_id)

    async def ask(self, ask: Ask) -> tuple[int, bytes]:
        if self.is_lost:
            raise SessionLost
        request_id = next(self._ids)
        body = request(request_id, ask.method, ask.params)
        awaited = self._awaited[request_id] = asyncio.get_running_loop().create_future()
        try:
            await self._post(body)
            data = await awaited
        except asyncio.CancelledError:
            if not self.is_lost and ask.method != "initialize":  # that one cannot be cancelled
                self._wire.errands.run(self._post(cancelled(request_id)))
            raise
        finally:
            self._awaited.pop(request_id, None)
        if len(data) > ask.limit:
            raise too_large(ask.limit)
        return request_id, data

    async def _post(self, body: bytes) -> None:
        # Shielded: one who leaves while the address is awaited must not end the wait of the others.
        address = await asyncio.shield(self._address)
        try:
            await self._wire.tell(self._headers, body, address)
        except BadStatus as bad:
            if bad.status not in (404, 410):
                raise
            # Only this message was surely not taken; the others may be under way.
            self._lose(broken_off())
            raise SessionLost from None

    # ---- the stream --------------------------------------------------------------------------------------

    async def _read(self) -> None:
        content = self._response.content
        failure: CallFailed = broken_off()
        try:
            while not content.at_eof():
                for event in self._events.feed(await content.readany()):
                    self._take(event)
        except TooLarge:
            failure = too_large(SESSION_EVENT_BYTES)
        except CallFailed as failed:
            failure = failed
        except (aiohttp.ClientError, OSError):
            pass
        finally:
            self._lose(failure)

    def _take(self, event: Event) -> None:
        if event.name == "endpoint":
            self._take_address(event.data)
            return
        try:
            messages = heads(event.data)
        except ValueError:
            self._count(MESSAGES // STRAYS)
            return
        for head, message in messages:
            awaited = self._awaited.get(head.id) if head.is_answer and isinstance(head.id, int) else None
            if awaited is not None and not awaited.done():
                awaited.set_result(message)
                self._unmatched = self._refused = 0
            else:
                self._count(1)
            if head.is_request and self._refused < REFUSALS:
                self._refused += 1
                self._wire.errands.run(self._post(reply_to(head)))

    def _take_address(self, data: bytes) -> None:
        if self._address.done():
            return
        try:
            address = self._wire.url.join(URL(data.decode()))
            is_ours = address.origin() == self._wire.url.origin() and address.user is None
        except ValueError:
            is_ours = False
        if not is_ours or len(data) > ADDRESS:
            raise invalid("The upstream names an address for messages that is not on its own host.")
        self._address.set_result(address)

    def _count(self, weight: int) -> None:
        """Messages that are nobody's are passed over, but not without end."""
        self._unmatched += weight
        if self._unmatched > MESSAGES:
            raise invalid("The upstream sent too many messages that answer nothing.")

    # ---- its end -----------------------------------------------------------------------------------------

    def _lose(self, failure: CallFailed) -> None:
        self.is_lost = True
        self._response.close()
        everything: list[asyncio.Future[Any]] = [self._address, *self._awaited.values()]
        for awaited in everything:
            if not awaited.done():
                awaited.set_exception(failure)
                awaited.exception()  # those who were waiting may have left

    def leave(self) -> None:
        self._lose(broken_off())
        self._reader.cancel()

    async def close(self) -> None:
        self.leave()
        await asyncio.wait([self._reader])


async def open_stream(wire: Wire, identity: Identity) -> StreamSession:
    """Raises CallFailed; BadStatus when there is no stream to be had at the address."""
    response = await wire.send("GET", wire.streamed(identity, {}))
    if not response.headers.get("Content-Type", "").lower().lstrip().startswith("text/event-stream"):
        response.close()
        if response.status >= 300:
            raise BadStatus(response.status)
        raise invalid("The upstream does not speak MCP at this address.")
    if response.status >= 300:
        response.close()
        raise BadStatus(response.status)
    session = StreamSession(wire, identity, response)
    try:
        await session.begin(identity)
    except BaseException:
        await session.close()
        raise
    return session
