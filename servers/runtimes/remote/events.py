"""Server-sent events out of chunks of bytes, within bounds (HTML standard, "Server-sent events")."""

from __future__ import annotations

import msgspec

_BOM = b"\xef\xbb\xbf"


class Event(msgspec.Struct, frozen=True, gc=False):
    name: str
    data: bytes


class TooLarge(Exception):
    """A line or an event exceeds the limit."""


class EventReader:
    """`limit` bounds the bytes of one line and of one event. Takes time in proportion to what is fed.

    `last_id` and `retry_ms` are what the stream said last of them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line: list[bytes] = []
        self._line_size = 0
        self._name = b""
        self._data: list[bytes] = []
        self._data_size = 0
        self._is_first = True
        self._after_return = False
        self.last_id = ""
        self.retry_ms: int | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are complete now. An unfinished one at the end of a stream is none. Raises TooLarge."""
        if self._after_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_return = False
        if not chunk:
            return []
        self._after_return = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *ended, rest = chunk.split(b"\n")
        events: list[Event] = []
        for line in ended:
            self._end_line(line, events)
        self._keep(rest)
        return events

    def _keep(self, part: bytes) -> None:
        self._line_size += len(part)
        if self._line_size > self._limit:
            raise TooLarge
        if part:
            self._line.append(part)

    def _end_line(self, end: bytes, events: list[Event]) -> None:
        self._keep(end)
        line = b"".join(self._line)
        self._line.clear()
        self._line_size = 0
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BOM)
        if line:
            self._field(line)
        elif self._data:
            events.append(Event(self._name.decode("utf-8", "replace") or "message", b"\n".join(self._data)))
            self._start_event()
        else:
            self._start_event()

    def _start_event(self) -> None:
        self._name = b""
        self._data.clear()
        self._data_size = 0

    def _field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data_size += len(value) + 1
            if self._data_size > self._limit:
                raise TooLarge
            self._data.append(value)
        elif field == b"event":
            self._name = value[:64]
        elif field == b"id" and b"\0" not in value and len(value) <= 1024:
            self.last_id = value.decode("utf-8", "replace")
        elif field == b"retry" and value.isdigit() and len(value) < 10:
            self.retry_ms = int(value)
