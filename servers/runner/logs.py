"""The last lines an instance has written, bounded and with secrets taken out."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable

from servers.runner.engine import KIB, LogLine

KEPT_BYTES = 256 * KIB
LONGEST_LINE = 10_000
LINES, WINDOW_SECONDS = 100, 10.0
TAIL_LINES = 20
# Shorter values would blacken ordinary words, and protect little.
SHORTEST_SECRET = 4
_MASK = "***"


class Log:
    """A ring of lines. A flood is counted instead of kept; so is what goes beyond the length of a line."""

    def __init__(self, secrets: Iterable[str] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._needles = _needles(secrets)
        self._clock = clock
        self._lines: deque[LogLine] = deque()
        self._bytes = 0
        self._number = 0
        self._window_began = clock()
        self._in_window = 0
        self._dropped = 0

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
        return [line for line in self._lines if line.number > number]

    def tail(self) -> list[str]:
        """The last lines as text, for whoever is told of a death."""
        return [line.text for line in list(self._lines)[-TAIL_LINES:]]

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
        self._number += 1
        self._lines.append(LogLine(number=self._number, at=time.time(), source=source, text=text))
        self._bytes += len(text)
        while self._bytes > KEPT_BYTES:
            self._bytes -= len(self._lines.popleft().text)


def _needles(secrets: Iterable[str]) -> tuple[str, ...]:
    """What is looked for, longest first: each value, its lines, and both as JSON would write them."""
    found = set()
    for secret in secrets:
        for part in (secret, *secret.splitlines()):
            found |= {part, json.dumps(part)[1:-1]}
    return tuple(sorted((part for part in found if len(part) >= SHORTEST_SECRET), key=len, reverse=True))
