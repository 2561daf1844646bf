"""What an import left out, and why, in sentences for the person who reads the result."""

from __future__ import annotations

from dataclasses import dataclass


class LeaveOut(Exception):
    """The part at hand cannot be imported; the message says why and what to do. Never leaves this package."""


class Remote(LeaveOut):
    """It is described in another document."""

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"It refers to `{reference[:200]}`, which is in another document, and other documents are never opened. "
            "Bundle everything into one file (for example with `redocly bundle`) and import that."
        )


@dataclass(frozen=True)
class LeftOut:
    what: str
    why: str


class Findings:
    """Collects what is left out: one by one, or counted when many operations share the reason."""

    has_remote = False

    def __init__(self) -> None:
        self._single: dict[LeftOut, None] = {}
        self._counted: dict[tuple[str, str], int] = {}
        self._first: dict[tuple[str, str], str] = {}

    def add(self, what: str, why: str) -> None:
        self._single[LeftOut(what, why)] = None

    def count(self, what: str, why: str, operation: str) -> None:
        """The same finding of several operations becomes one line that names the first."""
        self._counted[what, why] = self._counted.get((what, why), 0) + 1
        self._first.setdefault((what, why), operation)

    def all(self) -> list[LeftOut]:
        return [*self._single, *(self._summed(key, count) for key, count in self._counted.items())]

    def _summed(self, key: tuple[str, str], count: int) -> LeftOut:
        what, why = key
        more = f" and {count - 1:,} more" if count > 1 else ""
        return LeftOut(what, f"{why} ({self._first[key]}{more})")
