"""A version whose uploaded code has to be started first: until it answers, what was served before goes on being served.

So a new version costs no caller the start of its process. The wait has its end: code that does not come up is called
all the same, and says so. Nothing else is put off by this: switches take effect at once, and so does going back to an
earlier version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import structlog

from servers.pipeline.material import LIVE
from servers.pipeline.snapshot import Snapshot
from servers.runtimes.code.instance import Instance
from servers.runtimes.remote.failures import CallFailed

log = structlog.get_logger(__name__)
# A start may take 30 seconds. Counted from when what was served was replaced first.
SECONDS = 35.0
# What was replaced is remembered for that long, in case that it is called. What goes beyond is not.
MOST = 500
Key = tuple[UUID, str]
# Puts the second in the place of the first, if that is still what is kept.
Replace = Callable[[Snapshot, Snapshot], None]


class Successions:
    """What `live` was until it changed, by server and selector. To be used on the event loop alone."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._before: dict[Key, Snapshot] = {}
        self._ends: dict[Key, asyncio.TimerHandle] = {}
        self._waiting: dict[Key, asyncio.Task[None]] = {}
        # What was served on for as long as it may be, and is not again, however often it is replaced.
        self._outworn: dict[Key, Snapshot] = {}

    def note(self, selector: str, before: Snapshot) -> None:
        """It was served until now."""
        key = before.server, selector
        if before.channel != LIVE or self._before.get(key) is before or len(self._before) >= MOST:
            return
        if self._outworn.get(key) is before:
            return
        self._forget(key)
        self._before[key] = before
        self._ends[key] = asyncio.get_running_loop().call_later(self.seconds, self._end, key)

    def served(self, selector: str, made: Snapshot, replace: Replace) -> Snapshot:
        """What is served from now on: `made`, or what was before it, which is then replaced when `made` answers."""
        key = made.server, selector
        if (waiting := self._waiting.pop(key, None)) is not None:
            waiting.cancel()
        before = self._before.get(key)
        if before is None or not _waits(made, before):
            self._forget(key)
            self._outworn.pop(key, None)
            return made
        self._waiting[key] = asyncio.create_task(self._succeed(key, before, made, replace))
        return before

    async def _succeed(self, key: Key, before: Snapshot, made: Snapshot, replace: Replace) -> None:
        try:
            async with asyncio.timeout(self.seconds):
                await asyncio.gather(*map(_started, made.code))
        except TimeoutError:
            pass  # its callers are told
        except Exception:  # whatever it was, what was replaced is not served for ever
            log.exception("code.not_started")
        replace(before, made)
        self._forget(key)
        self._outworn.pop(key, None)
        del self._waiting[key]

    def _end(self, key: Key) -> None:
        before = self._before.get(key)
        if before is not None and len(self._outworn) < MOST:
            self._outworn[key] = before
        self._forget(key)

    def _forget(self, key: Key) -> None:
        self._before.pop(key, None)
        if (end := self._ends.pop(key, None)) is not None:
            end.cancel()

    def close(self) -> None:
        """What waits still is not replaced any more."""
        for task in self._waiting.values():
            task.cancel()
        for key in list(self._ends):
            self._forget(key)


async def _started(code: Instance) -> None:
    with suppress(CallFailed):  # has been logged, and is told to whoever calls it
        await code.wake()


def _waits(made: Snapshot, before: Snapshot) -> bool:
    """Nothing is gained by an older version whose own code fails, nor lost where everything answers already."""
    return (
        made.ordinal >= before.ordinal
        and made.switches == before.switches
        and not all(code.is_answering for code in made.code)
        and all(code.is_answering for code in before.code)
    )
