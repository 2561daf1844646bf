"""Processes of one's own programs. One is always ahead: it has read the SDK, which is most of what a start takes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from servers.runner.errors import Died

STREAM_BYTES = 256 * 1024
# One to see what a program offers, one to serve it. A process that was taken leaves the processor to the one who
# waits for it, before the next is made ready.
AHEAD, REFILL_SECONDS = 2, 1.0
# Of our environment, what a program on a developer's machine may need to find its way.
_INHERITED = ("HOME", "LANG", "PATH", "SSL_CERT_FILE", "TMPDIR", "TZ", "USER")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a process is started with: equal ones are interchangeable until they are shown a program's folder."""

    python: str
    programs: str
    target: str
    variables: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Process:
    """A child in a group of its own. It looks into `slot` with its first message, a link to the program's folder."""

    child: asyncio.subprocess.Process
    slot: Path

    def show(self, folder: Path) -> None:
        self.slot.symlink_to(folder)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)

    async def remove(self) -> None:
        self.kill()
        await self.child.wait()
        self.slot.unlink(missing_ok=True)


class Processes:
    """Starts them; `folder` is for their slots."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ahead: dict[Recipe, deque[Process]] = {}
        self._refilling: asyncio.Task[None] | None = None

    async def take(self, recipe: Recipe) -> Process:
        """Raises `Died`."""
        process = await self._one_ahead(recipe) or await self._started(recipe)
        if self._refilling is not None:
            self._refilling.cancel()
        self._refilling = asyncio.create_task(self._refill(recipe))
        return process

    async def _one_ahead(self, recipe: Recipe) -> Process | None:
        waiting = self._ahead.get(recipe, deque())
        while waiting:
            process = waiting.popleft()
            if process.child.returncode is None:
                return process
            await process.remove()
        return None

    async def _refill(self, recipe: Recipe) -> None:
        """Some are kept for the recipe that was used last; those of others are of no use any more."""
        await asyncio.sleep(REFILL_SECONDS)
        for other in [known for known in self._ahead if known != recipe]:
            await self._remove(self._ahead.pop(other))
        waiting = self._ahead.setdefault(recipe, deque())
        with contextlib.suppress(Died):  # told to whoever takes one
            while len(waiting) < AHEAD:
                waiting.append(await self._started(recipe))

    async def _remove(self, processes: Iterable[Process]) -> None:
        for process in processes:
            await process.remove()

    async def _started(self, recipe: Recipe) -> Process:
        self._folder.mkdir(parents=True, exist_ok=True)
        slot = self._folder / f"{os.getpid()}-{next(_numbers)}"
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        try:
            child = await asyncio.create_subprocess_exec(
                *(recipe.python, "-I", recipe.programs, "serve", recipe.target, str(slot)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                limit=STREAM_BYTES,
                env=inherited | dict(recipe.variables),
                start_new_session=True,
            )
        except OSError as error:
            raise Died(f"The program cannot be started: {error.strerror}.", log=[]) from None
        return Process(child, slot)

    async def close(self) -> None:
        if self._refilling is not None:
            self._refilling.cancel()
            await asyncio.wait([self._refilling])
        while self._ahead:
            await self._remove(self._ahead.popitem()[1])
