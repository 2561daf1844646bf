"""Remembered answers: fresh, shared or apart, stale when the upstream is down, and asked for once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from servers.pipeline import caching
from servers.pipeline.caching import Answers, CachedSource, CachedTool, CachePolicy
from servers.protocol.errors import ProtocolError
from servers.runtimes.base import Outcome, ToolCall, text_outcome
from servers.runtimes.remote.results import Completion, Reading
from servers.runtimes.remote.tool import RemoteCall


class Counting:
    """Answers with how often it was called; with `failure` when that is set."""

    is_immediate = False

    def __init__(self) -> None:
        self.calls = 0
        self.failure = ""
        self.holding: asyncio.Event | None = None

    async def call(self, call: ToolCall) -> Outcome:
        self.calls += 1
        if self.holding is not None:
            await self.holding.wait()
        if self.failure:
            return text_outcome("down", is_error=True, failure=self.failure)
        return Outcome([{"type": "text", "text": str(self.calls)}], {"n": self.calls})


class Shelf:
    """A `SharedAnswers` of this test."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    async def get(self, key: bytes) -> bytes | None:
        return self.kept.get(key)

    async def put(self, key: bytes, value: bytes, seconds: float) -> None:
        self.kept[key] = value

    async def close(self) -> None:
        self.kept.clear()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr(caching.time, "time", lambda: now[0])
    return now


def asked(principal: str = "key:a", **arguments: Any) -> ToolCall:
    return ToolCall(arguments, 0.0, 1024, principal=principal)


def made(policy: CachePolicy, **more: Any) -> tuple[Counting, CachedTool]:
    tool = Counting()
    return tool, CachedTool(tool, policy, Answers(**more), b"scope")


async def test_an_answer_is_given_again_until_it_is_old(clock: list[float]) -> None:
    tool, cached = made(CachePolicy(60))
    first = await cached.call(asked(city="Oslo"))
    clock[0] += 59
    assert await cached.call(asked(city="Oslo")) == first
    clock[0] += 2
    assert (await cached.call(asked(city="Oslo"))).structured == {"n": 2}
    assert tool.calls == 2


async def test_other_arguments_and_other_callers_have_answers_of_their_own(clock: list[float]) -> None:
    tool, cached = made(CachePolicy(60))
    for call in (asked(a=1), asked(a=2), asked("key:b", a=1), asked(a=1), asked("key:b", a=1)):
        await cached.call(call)
    assert tool.calls == 3


async def test_the_order_of_arguments_makes_no_difference(clock: list[float]) -> None:
    tool, cached = made(CachePolicy(60))
    await cached.call(asked(a=1, b={"c": 1, "d": 2}))
    await cached.call(asked(b={"d": 2, "c": 1}, a=1))
    assert tool.calls == 1


async def test_a_shared_answer_is_the_same_whoever_asks(clock: list[float]) -> None:
    tool, cached = made(CachePolicy(60, shared=True))
    await cached.call(asked("key:a"))
    await cached.call(asked("key:b"))
    assert tool.calls == 1


async def test_a_caller_without_a_name_is_not_remembered(clock: list[float]) -> None:
    tool, cached = made(CachePolicy(60))
    await cached.call(asked(""))
    await cached.call(asked(""))
    assert tool.calls == 2


async def test_two_versions_do_not_share_answers(clock: list[float]) -> None:
    tool, answers = Counting(), Answers()
    for scope in (b"1.0.0", b"1.1.0"):
        await CachedTool(tool, CachePolicy(60), answers, scope).call(asked())
    assert tool.calls == 2


async def test_an_error_is_never_remembered(clock: list[float]) -> None:
    tool, cached = made(CachePolicy(60))
    tool.failure = "tool_error"
    assert (await cached.call(asked())).is_error
    tool.failure = ""
    assert not (await cached.call(asked())).is_error


async def test_a_stale_answer_stands_in_for_an_upstream_that_is_down_and_says_so(clock: list[float]) -> None:
    tool, cached = made(CachePolicy(60, stale_seconds=600))
    first = await cached.call(asked())
    tool.failure = "upstream_unreachable"
    clock[0] += 120
    stale = await cached.call(asked())
    assert (stale.content, stale.is_error) == (first.content, False)
    assert stale.degraded == "This answer is 120 s old: upstream unreachable."
    clock[0] += 600
    assert (await cached.call(asked())).is_error


async def test_the_callers_own_mistake_is_not_covered_by_a_stale_answer(clock: list[float]) -> None:
    tool, cached = made(CachePolicy(60, stale_seconds=600))
    await cached.call(asked())
    tool.failure = "invalid_arguments"
    clock[0] += 120
    assert (await cached.call(asked())).failure == "invalid_arguments"


async def test_those_who_ask_at_the_same_time_share_one_call() -> None:
    tool, cached = made(CachePolicy(60))
    tool.holding = asyncio.Event()
    calls = [asyncio.ensure_future(cached.call(asked())) for _ in range(50)]
    await asyncio.sleep(0)
    tool.holding.set()
    outcomes = await asyncio.gather(*calls)
    assert tool.calls == 1
    assert {str(outcome.structured) for outcome in outcomes} == {"{'n': 1}"}


async def test_the_call_goes_on_for_the_others_and_ends_with_the_last(clock: list[float]) -> None:
    tool, cached = made(CachePolicy(60))
    tool.holding = asyncio.Event()
    first, second = (asyncio.ensure_future(cached.call(asked())) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    tool.holding.set()
    assert (await second).structured == {"n": 1}
    tool.holding.clear()
    third = asyncio.ensure_future(cached.call(asked(other=1)))
    await asyncio.sleep(0)
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    await asyncio.sleep(0)
    tool.holding.set()
    assert (await cached.call(asked(other=1))).structured == {"n": 3}


async def test_other_processes_see_an_answer_and_its_age(clock: list[float]) -> None:
    shelf, tool = Shelf(), Counting()
    here, there = (CachedTool(tool, CachePolicy(60), Answers(shelf), b"scope") for _ in range(2))
    await here.call(asked())
    assert (await there.call(asked())).structured == {"n": 1}
    clock[0] += 61
    await there.call(asked())
    assert tool.calls == 2


async def test_what_another_release_wrote_is_asked_for_again(clock: list[float]) -> None:
    shelf, tool = Shelf(), Counting()
    await CachedTool(tool, CachePolicy(60), Answers(shelf), b"scope").call(asked())
    shelf.kept = dict.fromkeys(shelf.kept, b"\xc1")
    await CachedTool(tool, CachePolicy(60), Answers(shelf), b"scope").call(asked())
    assert tool.calls == 2


async def test_memory_is_bounded_and_the_least_used_answer_goes_first(clock: list[float]) -> None:
    tool, cached = made(CachePolicy(60), most_bytes=2_000)
    await cached.call(asked(n=0))
    for n in range(1, 100):
        await cached.call(asked(n=n))
        await cached.call(asked(n=0))
    assert tool.calls == 100
    await cached.call(asked(n=1))
    assert tool.calls == 101


# ---- resources -------------------------------------------------------------------------------------------


class Shelved:
    """A source whose resources hold how often they were read; with `failure`, none."""

    is_immediate = False

    def __init__(self) -> None:
        self.reads = 0
        self.failure = ""
        self.holding: asyncio.Event | None = None

    async def read(self, uri: str, call: RemoteCall) -> Reading:
        self.reads += 1
        if self.holding is not None:
            await self.holding.wait()
        if self.failure:
            raise ProtocolError(503, "It is down.", reason=self.failure)
        return Reading([{"uri": uri, "text": str(self.reads)}])

    async def get(self, *_: Any) -> Any:
        raise NotImplementedError

    async def complete(self, *_: Any) -> Completion:
        return Completion(["Oslo"], None, False)


def shelved(policy: CachePolicy, **more: Any) -> tuple[Shelved, CachedSource]:
    source = Shelved()
    return source, CachedSource(source, policy, Answers(**more), b"scope")


def reader(principal: str = "key:a") -> RemoteCall:
    return RemoteCall(0.0, 1024, principal)


async def test_what_was_read_is_given_again_for_the_same_address_and_caller(clock: list[float]) -> None:
    source, cached = shelved(CachePolicy(60))
    first = await cached.read("a://1", reader())
    assert await cached.read("a://1", reader()) == first
    for uri, call in (("a://2", reader()), ("a://1", reader("key:b")), ("a://1", reader(""))):
        await cached.read(uri, call)
    assert source.reads == 4
    clock[0] += 61
    assert (await cached.read("a://1", reader())).contents == [{"uri": "a://1", "text": "5"}]


async def test_an_old_reading_stands_in_while_the_upstream_is_down_and_for_nothing_else(
    clock: list[float],
) -> None:
    source, cached = shelved(CachePolicy(60, stale_seconds=600))
    first = await cached.read("a://1", reader())
    clock[0] += 120
    source.failure = "upstream_unreachable"
    stale = await cached.read("a://1", reader())
    assert (stale.contents, stale.degraded) == (
        first.contents,
        "This answer is 120 s old: upstream unreachable.",
    )
    source.failure = "resource_not_found"
    with pytest.raises(ProtocolError, match="down"):
        await cached.read("a://1", reader())
    source.failure = "upstream_unreachable"
    clock[0] += 600
    with pytest.raises(ProtocolError, match="down"):
        await cached.read("a://1", reader())


async def test_those_who_read_at_the_same_time_share_one_reading_and_its_failure() -> None:
    source, cached = shelved(CachePolicy(60, shared=True))
    source.holding, source.failure = asyncio.Event(), "upstream_failed"
    reads = [asyncio.ensure_future(cached.read("a://1", reader(f"key:{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    source.holding.set()
    outcomes = await asyncio.gather(*reads, return_exceptions=True)
    assert source.reads == 1
    assert {type(outcome) for outcome in outcomes} == {ProtocolError}


async def test_other_processes_see_what_was_read(clock: list[float]) -> None:
    shelf, source = Shelf(), Shelved()
    here, there = (CachedSource(source, CachePolicy(60), Answers(shelf), b"scope") for _ in range(2))
    assert await here.read("a://1", reader()) == await there.read("a://1", reader())
    assert source.reads == 1


async def test_completions_of_a_remembered_resource_are_asked_for() -> None:
    _, cached = shelved(CachePolicy(60))
    assert (await cached.complete({}, None, reader())).values == ["Oslo"]
