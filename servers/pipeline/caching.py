"""Remembered answers of tools and resources that allow it: fresh ones instead of a call, stale ones when the upstream
is down.

Two levels: this process, bounded in bytes, and behind it a `SharedAnswers` that other processes see. Callers who
ask for the same answer at the same time share one call. What is remembered is only ever a success.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from servers.pipeline.remotes import Source
from servers.protocol.errors import ProtocolError
from servers.runtimes.base import UNSET, Outcome, ToolBinding, ToolCall
from servers.runtimes.code.failures import DOWN as CODE_DOWN
from servers.runtimes.remote.results import Completion, PromptAnswer, Reading
from servers.runtimes.remote.tool import RemoteCall

Json = dict[str, Any]
MOST_BYTES = 64 * 1024 * 1024
# One answer may not push out all the others.
LARGEST = 1024 * 1024
# What says something of the upstream, not of the caller or the definition: these a stale answer may stand in for.
# `upstream_failed` is a status from 500 on; one below (`upstream_status`) and a refusal (`upstream_error`) are
# answers, and stay.
UPSTREAM_DOWN = frozenset(
    "upstream_unreachable upstream_timeout upstream_unavailable upstream_busy upstream_failed upstream_invalid "
    "upstream_session_lost".split()
).union(CODE_DOWN)


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """For how many seconds an answer is as good as a new one, and for how many more it may stand in for one.

    `shared` answers are the same whoever asks; others are kept for each principal apart.
    """

    seconds: float
    stale_seconds: float = 0.0
    shared: bool = False


class Kept(msgspec.Struct, array_like=True, gc=False):
    """`made` is in seconds since 1970, so that other processes can tell its age."""

    made: float
    content: list[Json]
    has_structured: bool
    structured: Any = None

    def outcome(self, degraded: str = "") -> Outcome:
        return Outcome(self.content, self.structured if self.has_structured else UNSET, degraded=degraded)


class SharedAnswers(Protocol):
    """Answers kept for all processes. Never raises and never takes long: what is lost is asked for again."""

    async def get(self, key: bytes) -> bytes | None: ...

    async def put(self, key: bytes, value: bytes, seconds: float) -> None: ...

    async def close(self) -> None: ...


class Answers:
    """All remembered answers of a process; used on its event loop only."""

    def __init__(self, shared: SharedAnswers | None = None, *, most_bytes: int = MOST_BYTES) -> None:
        self._shared = shared
        self._most_bytes = most_bytes
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = (
            OrderedDict()
        )  # key → (when it is of no use, answer)
        self._bytes = 0
        self._running: dict[bytes, _Flight] = {}

    async def answer(
        self, key: bytes, policy: CachePolicy, call: Callable[[], Awaitable[Outcome]]
    ) -> Outcome:
        """A fresh answer, or that of `call`; a stale one, marked as such, when the upstream is down.

        Whether it is down is told by the outcome's `failure`, or by the reason of the ProtocolError that `call` raises.
        """
        kept = await self._find(key)
        if kept is not None and _age(kept) < policy.seconds:
            return kept.outcome()
        try:
            outcome = await self._joined(key, policy, call)
        except ProtocolError as error:
            if stale := _stale(kept, policy, error.reason):
                return stale
            raise
        return _stale(kept, policy, outcome.failure) or outcome

    async def close(self) -> None:
        if self._shared is not None:
            await self._shared.close()

    async def _find(self, key: bytes) -> Kept | None:
        found = self._kept.get(key)
        if found is not None and found[0] > time.time():
            self._kept.move_to_end(key)
            return _decoder.decode(found[1])
        encoded = await self._shared.get(key) if self._shared is not None else None
        return None if encoded is None else _read(encoded)

    async def _joined(
        self, key: bytes, policy: CachePolicy, call: Callable[[], Awaitable[Outcome]]
    ) -> Outcome:
        flight = self._running.get(key)
        if flight is None:
            flight = self._running[key] = _Flight(self._call(key, policy, call))
            flight.task.add_done_callback(lambda _: self._landed(key, flight))
        try:
            return await flight.wait()
        finally:
            if flight.is_given_up:
                self._landed(key, flight)

    def _landed(self, key: bytes, flight: _Flight) -> None:
        """Nobody joins it any more."""
        if self._running.get(key) is flight:
            del self._running[key]

    async def _call(self, key: bytes, policy: CachePolicy, call: Callable[[], Awaitable[Outcome]]) -> Outcome:
        outcome = await call()
        if not outcome.is_error:
            await self._keep(key, policy, outcome)
        return outcome

    async def _keep(self, key: bytes, policy: CachePolicy, outcome: Outcome) -> None:
        structured = None if outcome.structured is UNSET else outcome.structured
        kept = Kept(time.time(), outcome.content, outcome.structured is not UNSET, structured)
        encoded = msgspec.msgpack.encode(kept)
        if len(encoded) > LARGEST:
            return
        lifetime = policy.seconds + policy.stale_seconds
        self._put(key, kept.made + lifetime, encoded)
        if self._shared is not None:
            await self._shared.put(key, encoded, lifetime)

    def _put(self, key: bytes, until: float, encoded: bytes) -> None:
        before = self._kept.pop(key, None)
        self._bytes += len(encoded) - (len(before[1]) if before else 0)
        self._kept[key] = (until, encoded)
        while self._bytes > self._most_bytes:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._bytes -= len(oldest)


class _Flight:
    """One call that several wait for. It goes on while anyone waits, and is cancelled with the last of them."""

    def __init__(self, work: Coroutine[Any, Any, Outcome]) -> None:
        self.task: asyncio.Task[Outcome] = asyncio.ensure_future(work)
        self.is_given_up = False
        self._waiting = 0

    async def wait(self) -> Outcome:
        self._waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self._waiting -= 1
            if not self._waiting and not self.task.done():
                self.is_given_up = True
                self.task.cancel()


_decoder = msgspec.msgpack.Decoder(Kept)


def _read(encoded: bytes) -> Kept | None:
    """None for what another release has written."""
    try:
        return _decoder.decode(encoded)
    except msgspec.DecodeError:
        return None


def _stale(kept: Kept | None, policy: CachePolicy, failure: str) -> Outcome | None:
    """What may stand in for an answer that failed like this."""
    if kept is None or failure not in UPSTREAM_DOWN:
        return None
    age = _age(kept)
    if age >= policy.seconds + policy.stale_seconds:
        return None
    return kept.outcome(f"This answer is {age:.0f} s old: {failure.replace('_', ' ')}.")


def _age(kept: Kept) -> float:
    return max(0.0, time.time() - kept.made)


class _Cached:
    """`scope` is what the answers depend on beside what is asked and by whom; with `by_session` each client session is
    a caller of its own, since what answers is.
    """

    is_immediate = False

    def __init__(
        self, policy: CachePolicy, answers: Answers, scope: bytes, *, by_session: bool = False
    ) -> None:
        self._policy = policy
        self._answers = answers
        self._scope = scope
        self._by_session = by_session

    def _key(self, call: ToolCall | RemoteCall, asked: Any) -> bytes | None:
        """None for a caller without a name, who cannot be told from others."""
        if self._policy.shared:
            caller = ("", "")
        elif call.principal:
            caller = (call.principal, call.session if self._by_session else "")
        else:
            return None
        parts = (self._scope, *caller, asked)
        return hashlib.sha256(msgspec.msgpack.encode(parts, order="deterministic")).digest()


class CachedTool(_Cached):
    """A tool whose answers are remembered."""

    def __init__(
        self,
        binding: ToolBinding,
        policy: CachePolicy,
        answers: Answers,
        scope: bytes,
        *,
        by_session: bool = False,
    ) -> None:
        super().__init__(policy, answers, scope, by_session=by_session)
        self._binding = binding

    async def call(self, call: ToolCall) -> Outcome:
        key = self._key(call, call.arguments)
        if key is None:
            return await self._binding.call(call)
        # Several may wait for one answer, and most find it made: nobody is told of how it comes about.
        quiet = replace(call, listener=None)
        return await self._answers.answer(key, self._policy, lambda: self._binding.call(quiet))


class CachedSource(_Cached):
    """A resource, or the resources of a template, of which readings are remembered."""

    def __init__(
        self,
        source: Source,
        policy: CachePolicy,
        answers: Answers,
        scope: bytes,
        *,
        by_session: bool = False,
    ) -> None:
        super().__init__(policy, answers, scope, by_session=by_session)
        self._source = source

    async def read(self, uri: str, call: RemoteCall) -> Reading:
        key = self._key(call, uri)
        if key is None:
            return await self._source.read(uri, call)
        outcome = await self._answers.answer(key, self._policy, lambda: self._read(uri, call))
        return Reading(outcome.content, degraded=outcome.degraded)

    async def _read(self, uri: str, call: RemoteCall) -> Outcome:
        return Outcome((await self._source.read(uri, call)).contents)

    async def get(self, arguments: Mapping[str, str], call: RemoteCall) -> PromptAnswer:
        return await self._source.get(arguments, call)

    async def complete(self, argument: Json, context: Json | None, call: RemoteCall) -> Completion:
        return await self._source.complete(argument, context, call)
