"""What logs take together, with little room for all of them."""

from __future__ import annotations

from servers.runner.engine import KIB, LogLine
from servers.runner.logs import KEPT_BYTES, Memory, Ring, ServerLogs


def written(ring: Ring, lines: int, size: int = 1_000) -> Ring:
    for _ in range(lines):
        ring.keep("stderr", "x" * size)
    return ring


def test_all_logs_together_have_a_bound_that_whoever_writes_most_pays_for() -> None:
    memory = Memory(most=200 * KIB)
    quiet = written(Ring(owner="quiet", memory=memory), 5)
    loud = [Ring(owner="loud", memory=memory) for _ in range(100)]
    for ring in loud:
        written(ring, 10)
        assert sum(each.size for each in (quiet, *loud)) <= memory.most
    assert len(quiet.after(0)) == 5
    # The oldest have gone, and the newest is whole.
    assert loud[0].after(0) == []
    assert len(loud[-1].after(0)) == 10


def test_logs_that_nobody_has_any_more_take_no_room() -> None:
    memory = Memory(most=100 * KIB)
    kept = written(Ring(owner="acme", memory=memory), 20)
    for _ in range(100):
        written(Ring(owner="acme", memory=memory), 20)
    assert len(kept.after(0)) == 20
    assert memory.taken <= memory.most


def test_characters_count_as_what_they_take() -> None:
    ring = written(Ring(), 0)
    for _ in range(100):
        ring.keep("stderr", "\N{GRINNING FACE}" * 5_000)
    assert ring.size <= KEPT_BYTES
    assert len(ring.after(0)) == KEPT_BYTES // 20_300


def test_a_log_that_was_emptied_goes_on_counting() -> None:
    logs = ServerLogs(Memory())
    line = LogLine(number=1, at=0.0, source="stderr", text="x")
    logs.keep("acme", "tools", line)
    (first,) = logs.after("acme", "tools", 0)
    logs._rings["acme", "tools"].clear()
    assert logs.after("acme", "tools", 0) == []
    logs.keep("acme", "tools", line)
    assert [each.number for each in logs.after("acme", "tools", first.number)] == [first.number + 1]
