from __future__ import annotations

import asyncio

from mooring.cli.slow_timers import TICK_SECONDS, SlowTimers


async def test_a_timer_is_late_by_a_second_at_most_and_a_cancelled_one_is_silent() -> None:
    loop = asyncio.get_running_loop()
    timers, rung = SlowTimers(loop), asyncio.Event()
    heard: list[str] = []

    def ring(name: str) -> None:
        heard.append(name)
        also_due.cancel()
        rung.set()

    began = loop.time()
    timers.call_later(0.2, ring, "due")
    cancelled = timers.call_later(0.1, ring, "cancelled")
    also_due = timers.call_later(0.3, heard.append, "cancelled by the first")
    timers.call_later(60.0, ring, "not yet")
    cancelled.cancel()
    await asyncio.wait_for(rung.wait(), 20)
    assert loop.time() - began >= 0.2
    again = asyncio.Event()
    timers.call_later(TICK_SECONDS / 2, again.set)
    await asyncio.wait_for(again.wait(), 20)
    assert heard in (["due"], ["cancelled by the first", "due"])
