"""Bodies on their way to the control plane, bounded while they arrive: Django keeps whatever a stranger sends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mooring.errors import MooringError, TooLarge
from servers.gateway.answering import TEXT, send_answer
from servers.gateway.request import Message, Receive, Scope, Send, SlowBody

Application = Callable[..., Awaitable[None]]
# A document of five megabytes over a line of one megabit a second takes forty seconds, and the largest upload of
# code over one of two megabits half as much again.
SECONDS = 120.0
# The largest upload of code, and the fields around it.
UPLOAD_BYTES = 21 * 1024 * 1024


def bounded(application: Application) -> Application:
    """The same application, with 408 or 413 for a request whose body is slower or larger than anyone needs."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await application(scope, _Body(receive).receive, send)
        except (SlowBody, TooLarge) as refusal:
            await _refuse(send, refusal)

    return serve


async def _refuse(send: Send, refusal: MooringError) -> None:
    await send_answer(send, refusal.status, refusal.message.encode(), kind=TEXT)


class _Body:
    """Counts what comes. After the end of the body waiting is free: only the end of the connection can follow."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + SECONDS
        # Above Django's own limit for all else, which says it better to whoever is not far beyond it.
        self._left = UPLOAD_BYTES
        self._is_complete = False

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise SlowBody(f"The body did not arrive within {SECONDS:g} s.") from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise TooLarge("The body is too large.")
        self._is_complete = not message.get("more_body", False)
        return message
