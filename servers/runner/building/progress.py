"""What the people who wait for a build see: how far it is, and its log, bounded and without secrets."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

Stage = Literal["read", "declare", "resolve", "install", "pack", "try", "done"]

# Where each stage begins, in percent of the usual time.
_BEGINS: dict[Stage, int] = {
    "read": 0,
    "declare": 5,
    "resolve": 10,
    "install": 35,
    "pack": 75,
    "try": 80,
    "done": 100,
}
MOST_LINES, LONGEST_LINE = 2_000, 2_000
TAIL = 20
_MASK = "***"
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")


@dataclass(frozen=True, slots=True)
class Event:
    """One step: `line` is a line of the log, or empty when only the stage has changed."""

    stage: Stage
    percent: int
    line: str = ""


@dataclass(slots=True)
class Reporter:
    """Hands every event to `heard`, which must not wait. `secrets` are taken out of all lines."""

    heard: Callable[[Event], None] = lambda _: None
    secrets: Iterable[str] = ()
    stage: Stage = "read"
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))
    _count: int = 0

    def begin(self, stage: Stage, line: str = "") -> None:
        self.stage = stage
        if line:
            self.line(line)
        else:
            self.heard(Event(stage, _BEGINS[stage]))

    def line(self, text: str) -> None:
        self._count += 1
        if self._count > MOST_LINES:
            return
        cleaned = self.cleaned(text) if self._count < MOST_LINES else "More lines are not shown."
        self.lines.append(cleaned)
        self.heard(Event(self.stage, _BEGINS[self.stage], cleaned))

    def cleaned(self, text: str) -> str:
        """Without secrets, credentials in addresses, and what a terminal or a page would act on."""
        # Masked before it is cut, so that no half of a secret is left at the end.
        for secret in sorted((each for each in self.secrets if len(each) >= 4), key=len, reverse=True):
            text = text.replace(secret, _MASK)
        text = _UNSEEN.sub("", _ESCAPES.sub("", _CREDENTIALS.sub(f"{_MASK}@", text)))
        return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} …"

    def tail(self) -> list[str]:
        return list(self.lines)
