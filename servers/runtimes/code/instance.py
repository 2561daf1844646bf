"""One process of uploaded code, as what parts are asked of: started when it is needed, by the runner."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from servers.runner.client import RunnerClient
from servers.runner.engine import RunSpec
from servers.runner.errors import Refused, SessionEnded
from servers.runtimes.breaker import Verdict
from servers.runtimes.code.envelope import Envelope
from servers.runtimes.code.failures import PATIENCE_SECONDS, Away, Resting, failed_of
from servers.runtimes.code.line import Line
from servers.runtimes.remote.asking import Ask
from servers.runtimes.remote.calling import Visitor
from servers.runtimes.remote.endpoint import Identity, Introduction
from servers.runtimes.remote.failures import CallFailed, ClientSessionEnded, SessionLost, Unreachable
from servers.runtimes.remote.flight import SingleFlight
from servers.runtimes.remote.messages import Reply, result_of
from servers.runtimes.upstreams import Upstream, Visit

R = TypeVar("R")
# Of a server's log, in ours.
TOLD_LINES, TOLD_CHARACTERS = 10, 300

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ground:
    """What all instances stand on. `started` is told the runner's name of each that was started."""

    runner: RunnerClient
    socket: Path
    introduction: Introduction
    started: Callable[[str], None]


class Instance(Visitor):
    """`session` is "" where one process serves everybody, and `opened` when a client opened it, in Unix seconds, or 0
    for a caller without sessions. Made on any thread, used on the event loop alone.

    A start is shared by all who wait for it. A call waits for one as long as it may itself, sits a short rest after
    a crash out, and asks again when the runner has forgotten the instance. Where a session has lost its process, that
    is said.
    """

    is_told_callers = True

    def __init__(
        self, ground: Ground, spec: RunSpec, upstream: Upstream, session: str = "", opened: int = 0
    ) -> None:
        super().__init__(upstream)
        self._ground, self._spec, self._session, self._opened = ground, spec, session, opened
        self._envelope = Envelope(ground.introduction, spec.tenant, spec.server)
        self._line: Line | None = None
        self._starting: SingleFlight[Line] = SingleFlight()
        self._told = ""

    def scope_of(self, principal: str, session: str) -> str:
        return ""

    @property
    def late(self) -> Verdict:
        """A start that takes longer than a call may goes on, and the next call finds it done."""
        return Verdict.UNKNOWN if self._line is None else Verdict.FAILED

    @property
    def is_answering(self) -> bool:
        """Whether it was started, as far as is known here, and the last that was heard of it was no refusal."""
        return self._line is not None and not self._told

    async def wake(self) -> None:
        """Have it running. Raises CallFailed."""
        if self._line is None:
            await self._starting.join(self._start)

    async def _once(self, ask: Ask, decoder: msgspec.json.Decoder[Reply[R]]) -> R:
        line = self._line or await self._starting.join(self._start)
        try:
            number, answer = await line.ask(ask)
        except SessionLost:
            self._forget(line)
            raise
        except Refused as refused:
            failed = self._failed(refused)
            if isinstance(failed, SessionLost) or refused.code == SessionEnded.code:
                self._forget(line)
            raise failed from None
        self._told = ""
        return result_of(decoder, answer, number)

    async def _mend(self, failed: CallFailed, visit: Visit, identity: Identity, is_repeatable: bool) -> None:
        if isinstance(failed, SessionLost) and self._session:
            raise self._failed(SessionEnded("The runner does not know its process any more.")) from None
        if isinstance(failed, SessionLost):
            return  # the next try has it started anew
        if isinstance(failed, Resting) and failed.seconds <= PATIENCE_SECONDS:
            await asyncio.sleep(failed.seconds)
            return
        if not isinstance(failed, Unreachable) or not is_repeatable or not visit.take_retry():
            raise failed
        await visit.pause()

    def _forget(self, line: Line) -> None:
        if self._line is line:
            self._line = None

    async def _start(self) -> Line:
        try:
            endpoint = await self._ground.runner.ensure(self._spec, self._session, self._opened)
        except Refused as refused:
            raise self._failed(refused if os.path.exists(self._ground.socket) else Away()) from None
        self._ground.started(endpoint.instance)
        self._line = Line(endpoint, self.upstream, self._envelope)
        return self._line

    def _failed(self, refused: Refused) -> CallFailed:
        """What callers are told; what they are not is logged, once for each kind until a call is answered.

        That it is busy is none of this: it would be logged at the speed of calls.
        """
        if refused.code not in (self._told, "busy"):
            self._told = refused.code
            spec = self._spec
            logger.warning(
                "Code of server %s, tenant %s, version %s: %s: %s%s",
                spec.server,
                spec.tenant,
                spec.digest[:12],
                refused.code,
                refused.message,
                _last_lines(refused),
            )
        if self._opened and refused.code == SessionEnded.code:
            return ClientSessionEnded()
        return failed_of(refused)


def _last_lines(refused: Refused) -> str:
    lines = refused.data.get("log")
    if not isinstance(lines, list):
        return ""
    return "".join(f"\n    {str(line)[:TOLD_CHARACTERS]}" for line in lines[-TOLD_LINES:])
