"""The bus (DESIGN 3): a hint that something changed. Losing one costs half a second, never a change."""

from __future__ import annotations

import asyncio
import contextlib

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings

from tenants import changes

GROUP = "mooring.changes"


class Wakeups:
    """Within this process by an event; from other processes over the channel layer, when there is Redis."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._listening: asyncio.Task[None] | None = None
        changes.on_announce(self._wake)

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop of a gateway that has stopped
            self._loop.call_soon_threadsafe(self._event.set)

    async def listen(self) -> None:
        if settings.REDIS_URL:
            self._listening = asyncio.create_task(self._receive())

    async def _receive(self) -> None:
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.group_add(GROUP, channel)
        while True:
            await layer.receive(channel)
            self._event.set()

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()

    async def close(self) -> None:
        changes.stop_announcing_to(self._wake)
        if self._listening is not None:
            self._listening.cancel()


def announce_to_others() -> None:
    """Tell the gateways of other processes; called after each commit that changed something."""
    async_to_sync(get_channel_layer().group_send)(GROUP, {"type": "changed"})
