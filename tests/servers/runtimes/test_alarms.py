"""Limits of time that share one timer."""

from __future__ import annotations

import asyncio

import pytest

from servers.runtimes.alarms import Alarm, TimeLimit


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def never() -> None:
    await asyncio.Event().wait()


class Bell(Alarm):
    """Notes when it rang."""

    def __init__(self, when: float) -> None:
        super().__init__(when)
        self.rang = asyncio.Event()
        self.at = 0.0

    def ring(self) -> None:
        self.at = asyncio.get_running_loop().time()
        self.rang.set()


async def test_what_takes_too_long_is_ended() -> None:
    limit = TimeLimit(soon(0.02))
    with pytest.raises(TimeoutError), limit:
        await never()
    assert limit.expired
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_is_done_in_time_is_left_alone() -> None:
    with TimeLimit(soon(0.01)) as limit:
        await asyncio.sleep(0)
    later = Bell(soon(0.03))
    later.set()
    await later.rang.wait()
    assert not limit.expired


async def test_a_deadline_that_is_past_ends_the_first_wait() -> None:
    with pytest.raises(TimeoutError), TimeLimit(soon(-1)):
        await never()


async def test_the_inner_of_two_limits_ends_its_own_block_only() -> None:
    with TimeLimit(soon(30)) as outer:
        with pytest.raises(TimeoutError), TimeLimit(soon(0.01)):
            await never()
        await asyncio.sleep(0)
    assert not outer.expired


async def test_the_outer_of_two_limits_ends_both() -> None:
    inner = TimeLimit(soon(30))
    with pytest.raises(TimeoutError), TimeLimit(soon(0.01)), inner:
        await never()
    assert not inner.expired


async def test_who_is_cancelled_by_somebody_else_stays_cancelled() -> None:
    limits: list[TimeLimit] = []

    async def work() -> None:
        with TimeLimit(soon(30)) as limit:
            limits.append(limit)
            await never()

    task = asyncio.create_task(work())
    while not limits:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not limits[0].expired


async def test_an_error_inside_goes_on_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), TimeLimit(soon(30)):
        raise ZeroDivisionError


async def test_a_sooner_alarm_rings_before_one_set_earlier() -> None:
    late, soonest = Bell(soon(30)), Bell(soon(0.01))
    late.set()
    soonest.set()
    async with asyncio.timeout(5):
        await soonest.rang.wait()
    assert not late.rang.is_set()
    late.cancel()


async def test_no_alarm_rings_before_its_time_or_after_it_was_cancelled() -> None:
    bells = [Bell(soon(number / 1000)) for number in range(50)]
    for bell in bells:
        bell.set()
    for bell in bells[::2]:
        bell.cancel()
    async with asyncio.timeout(5):
        for bell in bells[1::2]:
            await bell.rang.wait()
    assert all(bell.at >= bell.when for bell in bells[1::2])
    assert not any(bell.rang.is_set() for bell in bells[::2])


async def test_many_calls_share_one_timer_and_leave_nothing_behind() -> None:
    loop = asyncio.get_running_loop()
    with TimeLimit(soon(30)):
        timers = len(loop._scheduled)  # type: ignore[attr-defined]  # asyncio tells it in no other way
        for _ in range(100):
            with TimeLimit(soon(30)) as limit:
                assert limit in limit._waiting
            assert limit not in limit._waiting
        assert len(loop._scheduled) == timers  # type: ignore[attr-defined]  # as above


def test_each_loop_has_alarms_of_its_own() -> None:
    async def late() -> bool:
        with pytest.raises(TimeoutError), TimeLimit(soon(0.01)):
            await never()
        return True

    assert [asyncio.run(late()) for _ in range(3)] == [True] * 3
