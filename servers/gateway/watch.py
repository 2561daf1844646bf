"""Noticing that a client has gone while its call runs."""

from __future__ import annotations

import asyncio
from types import TracebackType

from servers.gateway.request import Disconnected, Receive, until_disconnected
from servers.runtimes.alarms import Alarm

# Looking takes a task of its own, which costs a tenth of a whole call. Most are done before this, and the others
# lose half a second of work for nobody.
WATCH_AFTER_SECONDS = 0.5


class Watch(Alarm):
    """`with Watch(receive):` cancels what runs inside when the client goes, and raises Disconnected."""

    __slots__ = ("_cancelling", "_gone", "_receive", "_task", "_watching")

    def __init__(self, receive: Receive) -> None:
        super().__init__(asyncio.get_running_loop().time() + WATCH_AFTER_SECONDS)
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None
        self._gone = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self.set()

    def ring(self) -> None:
        self._watching = asyncio.get_running_loop().create_task(until_disconnected(self._receive))
        self._watching.add_done_callback(self._leave)

    def _leave(self, watching: asyncio.Task[None]) -> None:
        if not watching.cancelled():
            self._gone = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        if self._watching is not None:
            self._watching.remove_done_callback(self._leave)
            self._watching.cancel()
        # Cancelled by somebody else too: then that is what goes on.
        if self._gone and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise Disconnected from None
