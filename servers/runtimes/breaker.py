"""A circuit breaker: stop asking an upstream that keeps failing, and find out gently when it is back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from enum import Enum

FAILURES_TO_OPEN = 5
OPEN_SECONDS = 30.0
# Reopening is spread over 20 %, so that many processes do not probe a recovering upstream in the same moment.
JITTER = 0.2


class Verdict(Enum):
    """How an admitted call went. UNKNOWN says nothing about the upstream: the caller went away."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


LOOP_DETECTED = 508


def verdict_of(status: int) -> Verdict:
    """By the HTTP status of an answer. That a request went round in circles is no fault of whoever says so, and a
    stranger may have sent it round.
    """
    if status == LOOP_DETECTED:
        return Verdict.UNKNOWN
    return Verdict.FAILED if status >= 500 else Verdict.SUCCEEDED


def failure_of(status: int) -> str:
    """The stable code of a call that was answered with a status that is no success."""
    if status == LOOP_DETECTED:
        return "loop_detected"
    return "upstream_failed" if status >= 500 else "upstream_status"


class Pass(Enum):
    """What lets a call through, and tells its outcome apart later."""

    NORMAL = "normal"
    PROBE = "probe"


class Breaker:
    """closed → (5 failures in a row) → open → (30 s) → one probe → closed or open again."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock
        self._spread = spread
        self._opens_again_at: float | None = None
        self._probing = False
        self.failures = 0

    @property
    def state(self) -> str:
        if self._opens_again_at is None:
            return "closed"
        return "half-open" if self._probing or self._clock() >= self._opens_again_at else "open"

    def admit(self) -> Pass | None:
        """A pass, to be given back to `settle` whatever happens, or None while calls must not be made."""
        if self._opens_again_at is None:
            return Pass.NORMAL
        if self._probing or self._clock() < self._opens_again_at:
            return None
        self._probing = True
        return Pass.PROBE

    def refuses(self) -> bool:
        """Whether `admit` would say no; takes nothing."""
        return self._opens_again_at is not None and (self._probing or self._clock() < self._opens_again_at)

    @property
    def seconds_left(self) -> float:
        """Until a probe may go; 0.0 when one may go now, or is under way."""
        return 0.0 if self._opens_again_at is None else max(0.0, self._opens_again_at - self._clock())

    def settle(self, admitted: Pass, verdict: Verdict) -> None:
        if admitted is Pass.PROBE:
            self._probing = False
        elif self._opens_again_at is not None:
            return  # began before the breaker opened; only the probe speaks now
        if verdict is Verdict.SUCCEEDED:
            self._opens_again_at = None
            self.failures = 0
        elif verdict is Verdict.FAILED:
            self.failures += 1
            if admitted is Pass.PROBE or self.failures >= FAILURES_TO_OPEN:
                self._opens_again_at = self._clock() + OPEN_SECONDS * self._spread(1 - JITTER, 1 + JITTER)
