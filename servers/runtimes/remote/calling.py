"""What is asked of an MCP server by the parts that come from it, whatever carries the requests there.

Each is one call among those that the server may have at once, under its breaker and within its own deadline; each
thing that can be mended is mended once.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from servers.protocol.headers import MirroredParameter
from servers.runtimes.alarms import TimeLimit
from servers.runtimes.base import Listener, Outcome
from servers.runtimes.breaker import Verdict
from servers.runtimes.remote import modern, results
from servers.runtimes.remote.asking import Ask, Json
from servers.runtimes.remote.endpoint import SHARED, Identity
from servers.runtimes.remote.failures import (
    CallFailed,
    busy,
    timed_out,
    unavailable,
)
from servers.runtimes.remote.messages import Reply
from servers.runtimes.remote.results import Completion, PromptAnswer, Reading
from servers.runtimes.upstreams import Unavailable, Upstream, Visit

R = TypeVar("R")


class Caller(ABC):
    """Deadlines are on the event loop's clock. Only `call_tool` answers with an Outcome whatever happens; the others
    raise CallFailed, or Refused for a JSON-RPC error.
    """

    # Whether it is told who calls. A server elsewhere is not: that is no business of its owner's.
    is_told_callers = False

    def scope_of(self, principal: str, session: str) -> str:
        """Callers with one scope may share what the server keeps between calls. `session` is "" where there is none."""
        return principal

    @abstractmethod
    async def ask(self, ask: Ask, decoder: msgspec.json.Decoder[Reply[R]], is_repeatable: bool = True) -> R:
        """Raises CallFailed."""

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        deadline: float,
        limit: int,
        is_idempotent: bool = False,
        mirrored: Iterable[MirroredParameter] = (),
        identity: Identity = SHARED,
        listener: Listener | None = None,
    ) -> Outcome:
        """`limit` bounds the answer's bytes; `mirrored` are the annotated properties of the upstream's own schema;
        `listener` hears of the call while it runs.

        Raises ProtocolError for what passes on as such: the upstream knows no such tool, or refuses the arguments.
        """
        params = {"name": name, "arguments": arguments}
        try:
            headers = modern.mirrored(mirrored, arguments) if mirrored else ()
            ask = Ask("tools/call", params, limit, identity, headers, deadline, listener)
            result = await self.ask(ask, results.TOOL, is_idempotent)
            return results.outcome_of(result)
        except CallFailed as failed:
            return results.failed_tool(failed)

    async def read_resource(
        self, uri: str, *, deadline: float, limit: int, identity: Identity = SHARED
    ) -> Reading:
        ask = Ask("resources/read", {"uri": uri}, limit, identity, deadline=deadline)
        return results.reading_of(await self.ask(ask, results.RESOURCE))

    async def get_prompt(
        self,
        name: str,
        arguments: Mapping[str, str],
        *,
        deadline: float,
        limit: int,
        identity: Identity = SHARED,
    ) -> PromptAnswer:
        ask = Ask("prompts/get", {"name": name, "arguments": arguments}, limit, identity, deadline=deadline)
        return results.prompt_of(await self.ask(ask, results.PROMPT))

    async def complete(
        self,
        reference: Json,
        argument: Json,
        context: Json | None = None,
        *,
        deadline: float,
        limit: int,
        identity: Identity = SHARED,
    ) -> Completion:
        """`reference`, `argument` and `context` as in completion/complete, in the upstream's own names."""
        params = {"ref": reference, "argument": argument} | ({"context": context} if context else {})
        ask = Ask("completion/complete", params, limit, identity, deadline=deadline)
        return results.completion_of(await self.ask(ask, results.COMPLETION))


class Visitor(Caller):
    """A caller of one server. `upstream` brings the limit and the breaker."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    @property
    def late(self) -> Verdict:
        """What it says of the server at this moment when a call's time runs out."""
        return Verdict.FAILED

    @abstractmethod
    async def _once(self, ask: Ask, decoder: msgspec.json.Decoder[Reply[R]]) -> R:
        """One try. Raises CallFailed."""

    @abstractmethod
    async def _mend(self, failed: CallFailed, visit: Visit, identity: Identity, is_repeatable: bool) -> None:
        """Make a second try worth while, or raise what failed."""

    async def ask(self, ask: Ask, decoder: msgspec.json.Decoder[Reply[R]], is_repeatable: bool = True) -> R:
        return await self._visiting(ask.deadline, self._answered, ask, decoder, is_repeatable)

    async def _visiting(self, deadline: float, work: Callable[..., Awaitable[R]], *about: Any) -> R:
        """Do it as one call among those that the upstream may have at once. Raises CallFailed."""
        began = asyncio.get_running_loop().time()
        visit = self.upstream.visit(deadline - began)
        try:
            with TimeLimit(deadline) as time_limit:
                async with visit:
                    try:
                        result = await work(visit, *about)
                    except CallFailed as failed:
                        visit.verdict = failed.verdict
                        raise
                    except asyncio.CancelledError:
                        # A caller who went away says nothing about the upstream; our own limit of time does.
                        visit.verdict = self.late if time_limit.expired else Verdict.UNKNOWN
                        raise
                    visit.verdict = Verdict.SUCCEEDED
                    return result
        except TimeoutError:
            raise (timed_out(deadline - began) if visit.is_admitted else busy()) from None
        except Unavailable as why:
            raise unavailable(why) from None

    async def _answered(
        self, visit: Visit, ask: Ask, decoder: msgspec.json.Decoder[Reply[R]], is_repeatable: bool
    ) -> R:
        """Each thing that can be mended is mended once."""
        mended: tuple[type[CallFailed], ...] = ()
        while True:
            try:
                return await self._once(ask, decoder)
            except CallFailed as failed:
                if type(failed) in mended:
                    raise
                mended = (*mended, type(failed))
                await self._mend(failed, visit, ask.identity, is_repeatable)
