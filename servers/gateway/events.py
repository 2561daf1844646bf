"""An answer as a stream of server-sent events: what is said of a call while it runs, then its response."""

from __future__ import annotations

import asyncio

from servers.gateway.request import Send

# Proxies give up on a connection that is silent for a minute or so.
KEEP_ALIVE_SECONDS = 15.0
_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # or nginx would keep the events until there are many
)
_COMMENT = b":\n\n"


class EventStream:
    """Begins with its first message. Sending waits for the client to read, so nothing piles up here."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self._keeping_alive: asyncio.Task[None] | None = None
        self.has_begun = False
        self.sent_bytes = 0

    async def message(self, data: bytes) -> None:
        """`data` is one JSON-RPC message in one line. Who is cancelled here has sent all of it or nothing."""
        if not self.has_begun:
            headers = [*_HEADERS, (b"x-request-id", self._request_id.encode())]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            self.has_begun = True
            self._keeping_alive = asyncio.get_running_loop().create_task(self._keep_alive())
        await self._write(b"event: message\ndata: %b\n\n" % data)

    async def end(self, response: bytes) -> None:
        """The last message."""
        self.close()
        await self._write(b"event: message\ndata: %b\n\n" % response)
        await self._send({"type": "http.response.body", "body": b""})

    def close(self) -> None:
        """Say nothing more. To be called in any case, even when the client has gone."""
        if self._keeping_alive is not None:
            self._keeping_alive.cancel()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            await self._write(_COMMENT)

    async def _write(self, part: bytes) -> None:
        await self._send({"type": "http.response.body", "body": part, "more_body": True})
        self.sent_bytes += len(part)
