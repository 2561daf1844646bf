"""The bus (DESIGN 3): a hint that something changed. Losing one costs half a second, never a change."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings

from servers.gateway.knocking import Door
from tenants import changes

log = structlog.get_logger(__name__)
GROUP = "mooring.changes"
# Who has just changed something waits for this; what is lost costs the others half a second.
TELL_SECONDS = 1.0
RETRY_SECONDS = 5.0
STOP_SECONDS = 2.0


class Wakeups:
    """Within this process by an event; from other processes over the channel layer, or without Redis by knocking."""

    def __init__(self, *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._retry_seconds = retry_seconds
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._listening: asyncio.Task[None] | None = None
        self._door: Door | None = None
        changes.on_announce(self._wake)

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop of a gateway that has stopped
            self._loop.call_soon_threadsafe(self._event.set)

    async def listen(self) -> None:
        if settings.REDIS_URL:
            self._listening = asyncio.create_task(self._receive())
            return
        try:
            self._door = Door(settings.DATA_DIR, self._event.set)
        except OSError as error:
            log.info("changes.no_door", error=error.strerror)  # polling sees them all the same

    async def _receive(self) -> None:
        """Listen again and again, for as long as we run: without Redis, changes are seen by polling alone."""
        while True:
            try:
                await self._receive_until_lost()
            except Exception as error:  # noqa: BLE001  # whatever the bus raises, it is only a hint that is lost
                log.warning("bus.lost", error=type(error).__name__)
            await asyncio.sleep(self._retry_seconds)

    async def _receive_until_lost(self) -> None:
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
            await asyncio.wait({self._listening}, timeout=STOP_SECONDS)
        if self._door is not None:
            self._door.close()


def announce_to_others() -> None:
    """Tell the gateways of other processes; called after each commit that changed something. Never raises."""
    try:
        async_to_sync(_tell)()
    except Exception as error:  # noqa: BLE001  # what is committed must not be answered as a failure
        log.warning("bus.untold", error=type(error).__name__)


async def _tell() -> None:
    async with asyncio.timeout(TELL_SECONDS):
        await get_channel_layer().group_send(GROUP, {"type": "changed"})
