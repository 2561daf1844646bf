"""The last lines that servers have written, bounded and with secrets taken out."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from weakref import WeakSet

from servers.runner.engine import KIB, MIB, LogLine

# Of one log, and of all that a runner keeps.
KEPT_BYTES, KEPT_IN_ALL = 256 * KIB, 64 * MIB
KEPT_SERVERS = 256
LONGEST_LINE = 10_000
LINES, WINDOW_SECONDS = 100, 10.0
TAIL_LINES = 20
# Shorter values would blacken ordinary words, and protect little.
SHORTEST_SECRET = 4
_MASK = "***"
# What a line takes beside its text, and a log beside its lines, roughly.
_ROW_BYTES, _RING_BYTES = 200, 1_000


@dataclass(slots=True)
class Memory:
    """What all logs of a runner take together. Beyond `most` bytes, of whoever has most the logs go that were written
    to the longest ago, until a quarter is free.
    """

    most: int = KEPT_IN_ALL
    # At least what they take: logs that nobody has any more are only noticed when it becomes too much.
    taken: int = 0
    _rings: WeakSet[Ring] = field(default_factory=WeakSet)

    def add(self, ring: Ring) -> None:
        self._rings.add(ring)
        self.grow(ring.size)

    def grow(self, size: int) -> None:
        self.taken += size
        if self.taken > self.most:
            self._shrink()

    def _shrink(self) -> None:
        of_owners: dict[str, deque[Ring]] = {}
        sizes: Counter[str] = Counter()
        for ring in sorted(self._rings, key=lambda one: one.written_at):
            of_owners.setdefault(ring.owner, deque()).append(ring)
            sizes[ring.owner] += ring.size
        self.taken = sizes.total()
        while self.taken > self.most * 3 // 4 and sizes:
            owner, _ = sizes.most_common(1)[0]
            if not of_owners[owner]:
                del sizes[owner]  # nothing is left but the logs themselves
                continue
            freed = of_owners[owner].popleft().clear()
            sizes[owner] -= freed
            self.taken -= freed


class Ring:
    """The last lines, numbered from `first`. `owner` is whose they are, as far as `memory` is shared."""

    def __init__(self, first: int = 1, *, owner: str = "", memory: Memory | None = None) -> None:
        self.owner, self.size, self.written_at = owner, _RING_BYTES, 0.0
        self._lines: deque[LogLine] = deque()
        self._next = first
        self._memory = memory or Memory()
        self._memory.add(self)

    def keep(self, source: str, text: str, instance: str = "") -> LogLine:
        line = LogLine(number=self._next, at=time.time(), source=source, text=text, instance=instance)
        self._lines.append(line)
        self._next += 1
        self.written_at = line.at
        self.size += (added := _size_of(line))
        while self.size > KEPT_BYTES:
            self.size -= (dropped := _size_of(self._lines.popleft()))
            added -= dropped
        self._memory.grow(added)
        return line

    def clear(self) -> int:
        """Forget all lines. Returns how many bytes that gives back."""
        freed, self.size = self.size - _RING_BYTES, _RING_BYTES
        self._lines.clear()
        return freed

    def after(self, number: int) -> list[LogLine]:
        return [line for line in self._lines if line.number > number]

    def tail(self) -> list[str]:
        """The last lines as text, for whoever is told of a death."""
        return [line.text for line in list(self._lines)[-TAIL_LINES:]]


def _size_of(line: LogLine) -> int:
    """In memory, where a character takes up to four bytes."""
    return sys.getsizeof(line.text) + _ROW_BYTES


@dataclass(slots=True)
class ServerLogs:
    """What each server has written, whichever of its processes did; the servers that wrote last are kept."""

    memory: Memory
    _rings: OrderedDict[tuple[str, str], Ring] = field(default_factory=OrderedDict)

    def keep(self, tenant: str, server: str, line: LogLine) -> None:
        ring = self._rings.get((tenant, server))
        if ring is None:
            # Numbers go on growing when the runner was started again, so that whoever reads on misses nothing.
            first = int(time.time() * 1000)
            ring = self._rings[tenant, server] = Ring(first, owner=tenant, memory=self.memory)
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
        owner: str = "",
        memory: Memory | None = None,
        also: Callable[[LogLine], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._needles = _needles(secrets)
        self._instance, self._also, self._clock = instance, also, clock
        self._ring = Ring(owner=owner, memory=memory)
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
