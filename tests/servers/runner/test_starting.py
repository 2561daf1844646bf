"""Starts in turn: bounded for all, fair between tenants, and nobody waits for one that only sleeps."""

from __future__ import annotations

import asyncio

import pytest

from servers.runner.starting import StartSlots


class Starts:
    """Starts that go on until a test ends them, in the order in which they got their slots."""

    def __init__(self, slots: StartSlots) -> None:
        self._slots = slots
        self.began: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.ends: dict[str, asyncio.Event] = {}

    async def begin(self, *names: str) -> None:
        """`tenant/server`, all at once."""
        for name in names:
            self.ends[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._start(name))
        await settled()

    async def _start(self, name: str) -> None:
        async with self._slots.taken(name.split("/")[0]):
            self.began.append(name)
            await self.ends[name].wait()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self._tasks[name]
        await settled()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self._tasks[name].cancel()
        await asyncio.wait([self._tasks[name] for name in names])
        await settled()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_tenant_has_half_of_the_slots_at_most() -> None:
    starts = Starts(StartSlots(4, 60))
    await starts.begin("evil/1", "evil/2", "evil/3", "good/1")
    assert starts.began == ["evil/1", "evil/2", "good/1"]
    await starts.end("evil/1")
    assert starts.began[3:] == ["evil/3"]


async def test_tenants_that_wait_are_served_in_turn() -> None:
    starts = Starts(StartSlots(1, 60))
    await starts.begin("a/1", "a/2", "a/3", "b/1", "b/2", "c/1")
    for name in ("a/1", "a/2", "b/1", "c/1", "a/3"):
        await starts.end(name)
    assert starts.began == ["a/1", "a/2", "b/1", "c/1", "a/3", "b/2"]


async def test_a_start_without_end_gives_its_slot_back_and_goes_on() -> None:
    starts = Starts(StartSlots(1, 0.05))
    await starts.begin("evil/1", "good/1")
    assert starts.began == ["evil/1"]
    async with asyncio.timeout(5):
        while "good/1" not in starts.began:
            await asyncio.sleep(0.01)
    await starts.end("evil/1")
    await starts.end("good/1")
    await starts.begin("evil/2", "good/2")
    assert starts.began[2:] == ["evil/2"]  # one slot, as ever


@pytest.mark.parametrize("name", ["a/1", "b/1"], ids=["one that starts", "one that waits"])
async def test_whoever_gives_up_is_in_nobodys_way(name: str) -> None:
    starts = Starts(StartSlots(1, 60))
    await starts.begin("a/1", "b/1", "c/1")
    await starts.cancel(name)
    if name == "b/1":
        await starts.end("a/1")
    assert starts.began[1:] == (["b/1"] if name == "a/1" else ["c/1"])


async def test_giving_up_just_when_its_turn_comes_gives_the_slot_on() -> None:
    starts = Starts(StartSlots(1, 60))
    await starts.begin("a/1", "b/1", "c/1")
    starts.ends["a/1"].set()
    await asyncio.sleep(0)  # the slot is b's, and it does not know yet
    await starts.cancel("b/1")
    assert starts.began == ["a/1", "c/1"]
