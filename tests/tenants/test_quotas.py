from __future__ import annotations

import pytest

from tenants import quotas
from tenants.quotas import LocalQuotas, Rate, Refused


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def admitted(limits: LocalQuotas, *rates: Rate, tries: int) -> int:
    count = 0
    for _ in range(tries):
        if await limits.admit(rates, slot="s", slots=10_000) is None:
            count += 1
            limits.release("s")
    return count


async def test_a_minute_admits_its_number_and_at_most_a_burst_more() -> None:
    clock = Clock()
    limits = LocalQuotas(clock)
    total = 0
    for _ in range(600):
        total += await admitted(limits, Rate("a", 600), tries=5)
        clock.now += 0.1
    assert 600 <= total <= 660


async def test_a_refusal_by_one_tier_leaves_the_other_untouched() -> None:
    limits = LocalQuotas(Clock())
    wide, narrow = Rate("wide", 1_000), Rate("narrow", 10)
    assert await admitted(limits, wide, narrow, tries=5) == 1
    assert await admitted(limits, wide, tries=200) == 99


async def test_a_refusal_says_when_to_come_back() -> None:
    clock = Clock()
    limits = LocalQuotas(clock)
    rate = Rate("a", 60)
    while (refused := await limits.admit([rate], slot="s", slots=9)) is None:
        limits.release("s")
    clock.now += refused.retry_after
    assert await limits.admit([rate], slot="s", slots=9) is None


async def test_slots_are_bounded_and_given_back() -> None:
    limits = LocalQuotas(Clock())
    rate = Rate("a", 6_000)
    assert [await limits.admit([rate], slot="s", slots=2) for _ in range(2)] == [None, None]
    assert await limits.admit([rate], slot="s", slots=2) == Refused("concurrency", 2, 1.0)
    limits.release("s")
    assert await limits.admit([rate], slot="s", slots=2) is None


async def test_a_flood_of_names_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "MAX_NAMES", 100)
    limits = LocalQuotas(Clock())
    for n in range(1_000):
        await limits.admit([Rate(str(n), 1)], slot="s", slots=10_000)
    assert len(limits._arrivals) <= 102
