"""What runs uploaded code here, for people: whether it can, what runs of a server, and what that has said.

The runner is asked with a short deadline, since a page waits for it; every answer is bounded.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from django.conf import settings
from django.db import transaction

from mooring.audit.record import Actor
from mooring.errors import MooringError, NotFound, Unavailable
from servers.importers.code import refusal_of
from servers.models import Server
from servers.runner.client import SOCKET, RunnerClient
from servers.runner.engine import Capabilities, InstanceInfo, LogLine
from servers.runner.errors import Refused
from servers.services.recording import locked, note

SECONDS, STOP_SECONDS, KEEP_SECONDS = 2.0, 15.0, 60.0
# What a runner enforces changes when it is started again.
KEPT_SECONDS = 20.0
MOST_INSTANCES, MOST_LINES = 50, 500
_T = TypeVar("_T")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """`reason` says why uploaded code cannot be run here, to whoever runs the installation; empty when it can.

    `is_unsafe`: it is run although `missing` is not enforced, as a developer has asked for.
    """

    reason: str = ""
    missing: tuple[str, ...] = ()
    is_unsafe: bool = False


class _Known:
    """The last answer, for all pages of this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._standing = Standing()
        self._asked_at = -KEPT_SECONDS

    def standing(self, not_before: float) -> Standing:
        """Those who wait for an answer share the next one, so that a silent runner holds each of them but once."""
        with self._lock:
            if self._asked_at < not_before:
                self._asked_at = time.monotonic()
                self._standing = _asked_for_standing()
            return self._standing


_known = _Known()


def standing(*, anew: bool = False) -> Standing:
    """Whether uploaded code can be run here. As it was known in the last seconds, unless `anew`."""
    return _known.standing(time.monotonic() - (0 if anew else KEPT_SECONDS))


def require_runner() -> None:
    """Raises `Unavailable` with the reason where uploaded code cannot be run."""
    if reason := standing(anew=True).reason:
        raise Unavailable(reason, code="code_unavailable")


def _asked_for_standing() -> Standing:
    folder = Path(settings.RUNNER_DIR)
    if not os.path.exists(folder / SOCKET):  # False as well where we may not look
        return Standing(
            "No runner is started here. Start Mooring with `mooring up`, or start one as root: "
            f"`mooring runner --folder {folder}`."
        )
    try:
        found: Capabilities = _asked(lambda runner: runner.probe())
    except MooringError as error:
        return Standing(f"The runner does not answer. {error.message}")
    if found.is_safe:
        return Standing()
    missing = tuple(found.missing) or ("It does not say what is missing.",)
    if found.allows_unsafe:
        return Standing(missing=missing, is_unsafe=True)
    return Standing(f"This machine cannot hold uploaded code: {' '.join(missing)}", missing)


# ---- what runs of a server -------------------------------------------------------------------------------


def instances_of(server: Server) -> list[InstanceInfo]:
    """Processes of a server's code, the newest first. Raises `Unavailable`."""
    return _asked(lambda runner: _instances(runner, server))


def lines_of(server: Server, *, after: int = 0, most: int = MOST_LINES) -> list[LogLine]:
    """What the processes of a server's code have said, oldest first: the newest `most` lines of it, or with `after`
    those that follow the line of that number, the first `most` of them. Raises `Unavailable`.
    """
    lines = _asked(lambda runner: runner.server_logs(str(server.tenant_id), str(server.id), after))
    return lines[:most] if after else lines[-most:]


def keep_artifacts(digests: Iterable[str]) -> list[str]:
    """Let the runner of this machine remove artifacts that no build has given any more. Raises `Unavailable`."""
    wanted = list(digests)
    return _asked(lambda runner: runner.keep(wanted), seconds=KEEP_SECONDS)


def missing_artifacts(digests: Iterable[str]) -> list[str]:
    """Those that the runner of this machine cannot run. Raises `Unavailable`."""
    wanted = list(digests)
    return _asked(lambda runner: runner.missing(wanted), seconds=KEEP_SECONDS) if wanted else []


def let_stand_in(digest: str, *, by: str) -> None:
    """Have an artifact run where another is named. Raises `Unavailable`."""
    _asked(lambda runner: runner.stand_in(digest, by))


def stop_instance(server: Server, *, actor: Actor, instance: str) -> None:
    """End a process; the next call starts another. Raises `NotFound` and `Unavailable`."""
    if instance not in {one.instance for one in instances_of(server)}:
        raise NotFound("There is no such instance any more.")
    with transaction.atomic():
        note(locked(server), "instance.stopped", actor=actor, after={"instance": instance})
    # After it is written down: the runner gives a program time to end, and what was begun there is not undone.
    _asked(lambda runner: runner.stop(instance), seconds=STOP_SECONDS)


def process_row(info: InstanceInfo) -> Json:
    """As the API shows it."""
    names = "instance digest state reason session era in_flight starts crashes".split()
    return {name: getattr(info, name) for name in names} | {"silent_for": round(info.silent_for, 1)}


def log_page(lines: Sequence[LogLine], after: int) -> Json:
    """As the API shows what came after a line: `next` is where to read on."""
    return {
        "data": [_line_row(line) for line in lines],
        "next": lines[-1].number if lines else after,
    }


def _line_row(line: LogLine) -> Json:
    at = datetime.fromtimestamp(line.at, UTC)
    return {
        "number": line.number,
        "at": at,
        "instance": line.instance,
        "source": line.source,
        "text": line.text,
    }


async def _instances(runner: RunnerClient, server: Server) -> list[InstanceInfo]:
    found = await runner.instances(str(server.tenant_id))
    return [one for one in reversed(found) if one.server == str(server.id)][:MOST_INSTANCES]


def _asked(ask: Callable[[RunnerClient], Awaitable[_T]], *, seconds: float = SECONDS) -> _T:
    """For threads without a running loop."""

    async def talk() -> _T:
        runner = RunnerClient(Path(settings.RUNNER_DIR))
        try:
            async with asyncio.timeout(seconds):
                return await ask(runner)
        finally:
            await runner.close()

    try:
        return asyncio.run(talk())
    except TimeoutError:
        raise Unavailable(f"It has not answered within {seconds:g} s.", code="code_unavailable") from None
    except Refused as refused:
        raise refusal_of(refused) from None
