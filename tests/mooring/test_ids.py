"""Identifiers that sort by time."""

from __future__ import annotations

import time
import uuid

from mooring.ids import uuid7


def test_identifiers_say_when_they_were_made_and_sort_in_the_order_they_were_made() -> None:
    before = time.time_ns() // 1_000_000
    made = [uuid7() for _ in range(2_000)]
    after = time.time_ns() // 1_000_000
    assert made == sorted(made)
    assert len(set(made)) == 2_000
    assert all(before <= each.int >> 80 <= after for each in made)
    assert {(each.version, each.variant) for each in made} == {(7, uuid.RFC_4122)}
