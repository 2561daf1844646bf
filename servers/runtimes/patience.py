"""Telling an upstream how long its answer is waited for: `Prefer: wait=…` (RFC 7240), in whole seconds."""

from __future__ import annotations

from multidict import CIMultiDict

# Nobody waits longer, and no more variants of the headers are kept.
LONGEST = 600


class PatientHeaders:
    """The headers of a request, with a preference that says how much time is left.

    One that is among them already stays: whoever wrote it knows the upstream better.
    """

    __slots__ = ("_by_seconds", "plain")

    def __init__(self, plain: CIMultiDict[str]) -> None:
        self.plain = plain
        self._by_seconds: dict[int, CIMultiDict[str]] = {}

    def within(self, seconds: float) -> CIMultiDict[str]:
        """Shared by all calls with as much time and never changed. Of less than a second nothing is said."""
        whole = max(0, min(int(seconds), LONGEST))
        headers = self._by_seconds.get(whole)
        if headers is None:
            headers = self._by_seconds[whole] = self._saying(whole)
        return headers

    def _saying(self, seconds: int) -> CIMultiDict[str]:
        if seconds < 1 or "Prefer" in self.plain:
            return self.plain
        headers = self.plain.copy()
        headers["Prefer"] = f"wait={seconds}"
        return headers
