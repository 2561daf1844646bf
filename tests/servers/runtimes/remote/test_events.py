"""Reading server-sent events however they arrive, and no more of them than allowed."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.runtimes.remote.events import Event, EventReader, TooLarge

STREAM = (
    b"\xef\xbb\xbf: welcome\n\nevent: message\ndata: one\n\n"
    b"id: 7\r\nretry: 250\r\ndata:two\r\ndata: lines\r\n\r\n"
    b"data\rdata: after nothing\r\rnonsense\nevent: lost\n\ndata: \xc3\xa9\n\nid: 8\ndata: cut off"
)
EVENTS = [
    Event("message", b"one"),
    Event("message", b"two\nlines"),
    Event("message", b"\nafter nothing"),
    Event("message", b"\xc3\xa9"),
]


def test_events_are_read_as_the_standard_says() -> None:
    reader = EventReader(1_000)
    assert reader.feed(STREAM) == EVENTS
    assert (reader.last_id, reader.retry_ms) == ("8", 250)


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_it_does_not_matter_where_chunks_end(cuts: list[int]) -> None:
    reader = EventReader(1_000)
    places = [0, *sorted(cuts), len(STREAM)]
    events = [event for start, end in pairwise(places) for event in reader.feed(STREAM[start:end])]
    assert events == EVENTS


@given(st.binary(max_size=300), st.integers(1, 40))
def test_any_bytes_are_read_alike_in_any_pieces(data: bytes, size: int) -> None:
    whole, pieces = EventReader(1_000), EventReader(1_000)
    expected = whole.feed(data)
    assert [
        event for start in range(0, len(data), size) for event in pieces.feed(data[start : start + size])
    ] == expected


@pytest.mark.parametrize("start", [b"data: ", b"", b": ", b"id: "])
def test_a_line_without_end_is_given_up(start: bytes) -> None:
    reader = EventReader(1_000)
    reader.feed(start)
    for _ in range(90):
        reader.feed(b"xxxxxxxxxx")
    with pytest.raises(TooLarge):
        reader.feed(b"x" * 101)


def test_an_event_without_end_is_given_up() -> None:
    reader = EventReader(1_000)
    for _ in range(90):
        reader.feed(b"data: xxxxxxxxxx\n")
    with pytest.raises(TooLarge):
        reader.feed(b"data: xxxxxxxxxx\n")


def test_a_long_line_in_small_pieces_costs_no_more_than_its_length() -> None:
    reader = EventReader(10_000_000)
    began = time.process_time()
    for _ in range(200_000):
        reader.feed(b"0123456789")
    [event] = reader.feed(b"\n\ndata:x\n\n")
    assert event.data == b"x"
    assert time.process_time() - began < 5  # quadratic work would take minutes
