"""The last lines that servers have written, bounded and with secrets taken out."""

from __future__ import annotations

import json
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from servers.runner.engine import KIB, LogLine

KEPT_BYTES = 256 * KIB
KEPT_SERVERS = 256
LONGEST_LINE = 10_000
LINES, WINDOW_SECONDS = 100, 10.0
TAIL_LINES = 20
# Shorter values would blacken ordinary words, and protect little.
SHORTEST_SECRET = 4
_MASK = "***"
# What a line takes beside its text, roughly.
_ROW_BYTES = 100


class Ring:
    """The last lines, numbered from `first`."""

    def __init__(self, first: int = 1) -> None:
        self._lines: deque[LogLine] = deque()
        self._bytes = 0
        self._next = first

    def keep(self, source: str, text: str, instance: str = "") -> LogLine:
        line = LogLine(number=self._next, at=time.time(), source=source, text=text, instance=instance)
        self._lines.append(line)
        self._next += 1
        self._bytes += len(text) + _ROW_BYTES
        while self._bytes > KEPT_BYTES:
            self._bytes -= len(self._lines.popleft().text) + _ROW_BYTES
        return line

    def after(self, number: int) -> list[LogLine]:
        return [line for line in self._lines if line.number > number]

    def tail(self) -> list[str]:
        """The last lines as text, for whoever is told of a death."""
        return [line.text for line in list(self._lines)[-TAIL_LINES:]]


@dataclass(slots=True)
class ServerLogs:
    """What each server has written, whichever of its processes did; the servers that wrote last are kept."""

    _rings: OrderedDict[tuple[str, str], Ring] = field(default_factory=OrderedDict)

    def keep(self, tenant: str, server: str, line: LogLine) -> None:
        ring = self._rings.get((tenant, server))
        if ring is None:
            # Numbers go on growing when the runner was started again, so that whoever reads on misses nothing.
            ring = self._rings[tenant, server] = Ring(int(time.time() * 1000))
        self._rings.move_to_end((tenant, server))
        ring.keep(line.source, line.text, line.instance)
        if len(self._rings) > KEPT_SERVERS:
            self._rings.popitem(last=False)

    def after(self, tenant: str, server: str, number: int) -> list[LogLine]:
        ring = self._rings.get((tenant, server))
        return ring.after(number) if ring else []


class Log:
    """The lines of one instance. A flood is counted instead of kept; so is what goes beyond the length of a line.

    `also` is told each line that is kept, as it is kept.
    """

    def __init__(
        self,
        secrets: Iterable[str] = (),
        *,
        instance: str = "",
        also: Callable[[LogLine], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._needles = _needles(secrets)
        self._instance, self._also, self._clock = instance, also, clock
        self._ring = Ring()
        self._window_began = clock()
        self._in_window = 0
        self._dropped = 0

    def belong_to(self, instance: str) -> None:
        """Its lines are those of this instance from now on."""
        self._instance = instance

    def allowance(self) -> int:
        """How many lines are taken now. Asking first spares the work on lines that would be dropped."""
        now = self._clock()
        if now - self._window_began >= WINDOW_SECONDS:
            self._window_began, self._in_window = now, 0
            self._tell_dropped()
        return LINES - self._in_window

    def add(self, source: str, text: str) -> None:
        if self.allowance() <= 0:
            self._dropped += 1
            return
        self._in_window += 1
        self._keep(source, text)

    def drop(self, lines: int) -> None:
        self._dropped += lines

    def note(self, text: str) -> None:
        """A line of the runner's own, which no flood can keep out."""
        self._tell_dropped()
        self._keep("runner", text)

    def after(self, number: int) -> list[LogLine]:
        return self._ring.after(number)

    def tail(self) -> list[str]:
        return self._ring.tail()

    def masked(self, text: str) -> str:
        for needle in self._needles:
            text = text.replace(needle, _MASK)
        return text

    def _tell_dropped(self) -> None:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._keep(
                "runner", f"{dropped} lines were dropped: more than {LINES} in {WINDOW_SECONDS:.0f} s."
            )

    def _keep(self, source: str, text: str) -> None:
        # Masked before it is cut, so that no half of a secret is left at the end.
        text = self.masked(text)
        text = text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} …"
        self._also(self._ring.keep(source, text, self._instance))


def _needles(secrets: Iterable[str]) -> tuple[str, ...]:
    """What is looked for, longest first: each value, its lines, and both as JSON would write them."""
    found = set()
    for secret in secrets:
        for part in (secret, *secret.splitlines()):
            found |= {part, json.dumps(part)[1:-1]}
    return tuple(sorted((part for part in found if len(part) >= SHORTEST_SECRET), key=len, reverse=True))
