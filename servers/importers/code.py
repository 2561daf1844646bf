"""Uploaded code on its way to an artifact: built by the runner, and what it offers checked as any upstream's list."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from mooring.errors import InvalidInput, MooringError, Unavailable
from servers.importers.remote import KINDS
from servers.manifests import storable
from servers.runner.client import RunnerClient
from servers.runner.engine import BuildEvent, BuildResult, BuildSpec
from servers.runner.errors import Refused
from servers.runtimes.remote.listing import checked

Json = dict[str, Any]
# How often whoever waits is told what has happened.
TOLD_EVERY = 0.5
# Of what has happened in between; the runner bounds a build's log below this.
_MOST_EVENTS = 10_000
# What the same upload is refused for however often it is tried.
_FINAL = frozenset({"unbuildable", "too_large", "malformed", "unsafe", "timed_out"})
# What of a refusal's data people can use.
_KEPT = ("stage", "file", "line", "block", "missing")

# What each stage is to people, and where it begins in percent of the usual time.
STAGES: dict[str, tuple[str, int]] = {
    "read": ("Reading the upload", 5),
    "declare": ("Finding out what it needs", 10),
    "resolve": ("Choosing versions of packages", 20),
    "install": ("Installing packages", 40),
    "pack": ("Packing", 75),
    "try": ("Starting it once to see what it offers", 85),
    "done": ("Done", 99),
}


def build(
    folder: Path, spec: BuildSpec, upload: bytes, *, told: Callable[[Sequence[BuildEvent]], None]
) -> BuildResult:
    """Have the runner in `folder` build an upload. `told` gets what is new twice a second, on the caller's thread.

    What `told` raises ends the build and is raised on. Raises `InvalidInput` for what is refused for good, and
    `Unavailable` for what may go well another time; `data` may hold stage, file, line, block and missing.
    """
    asked = _Asked(folder, spec, upload)
    asked.start()
    try:
        while not asked.ended():
            told(asked.news())
        told(asked.news())
        return asked.end.result()
    except Refused as refused:
        raise refusal_of(refused) from None
    finally:
        asked.hang_up()
        asked.join()


def refusal_of(refused: Refused) -> MooringError:
    data = {name: storable(refused.data[name]) for name in _KEPT if refused.data.get(name)}
    kind = InvalidInput if refused.code in _FINAL else Unavailable
    return kind(storable(refused.message), code=refused.code, **data)


class _Asked(Thread):
    """The conversation with the runner, in a loop of its own: who waits for it writes to the database meanwhile."""

    def __init__(self, folder: Path, spec: BuildSpec, upload: bytes) -> None:
        super().__init__(name=f"build of {spec.name[:40]}", daemon=True)
        self.end: Future[BuildResult] = Future()
        self._folder, self._spec, self._upload = folder, spec, upload
        self._heard: deque[BuildEvent] = deque(maxlen=_MOST_EVENTS)
        self._hang_up: Callable[[], object] = lambda: None
        self._is_given_up = False

    def ended(self) -> bool:
        """Wait a moment for the end."""
        try:
            self.end.exception(TOLD_EVERY)
        except TimeoutError:
            return False
        return True

    def news(self) -> list[BuildEvent]:
        return [self._heard.popleft() for _ in range(len(self._heard))]

    def hang_up(self) -> None:
        """Cancel what still runs; the runner sees that nobody listens any more."""
        self._is_given_up = True
        with suppress(RuntimeError):  # its loop is over already
            self._hang_up()

    def run(self) -> None:
        try:
            self.end.set_result(asyncio.run(self._talk()))
        except BaseException as error:  # noqa: BLE001  # handed over to the thread that waits
            self.end.set_exception(error)

    async def _talk(self) -> BuildResult:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        client = RunnerClient(self._folder)
        self._hang_up = lambda: loop.call_soon_threadsafe(task.cancel)
        if self._is_given_up:
            task.cancel()
        try:
            return await client.build(self._spec, self._upload, self._heard.append)
        finally:
            await client.close()


def offer_of(result: BuildResult) -> Json:
    """What a build has found, with its lists under the names of a manifest's sections; see `servers.models.Build`."""
    lists = {
        section: checked(kind, list(getattr(result, section)), is_modern=result.era == "modern")
        for kind, section, _ in KINDS
    }
    offer: Json = {
        "mode": result.mode,
        "era": result.era,
        "target": result.target[:500],
        "name": result.name[:200],
        "title": result.title[:200],
        "version": result.version[:100],
        "instructions": result.instructions[:20_000],
        "problems": [problem for one in lists.values() for problem in (*one.problems, one.cut) if problem][
            :50
        ],
    }
    whole: Json = storable(offer | {section: list(one.definitions) for section, one in lists.items()})
    return whole
