"""What the runner's refusals mean to callers. Its own words, reasons and last log lines are for the log alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec

from servers.runner.errors import Refused, refusal
from servers.runtimes.breaker import Verdict
from servers.runtimes.remote.failures import CallFailed, SessionLost, Unreachable


class _Said(NamedTuple):
    failure: str
    sentence: str


# What the code itself did or was given; everything else is for this installation to mend.
_OF_THE_CALL = frozenset({"died", "session_ended", "timed_out", "too_large"})
_OTHER = _Said("code_failed", "The server's code cannot be called at the moment.")
_SAID = {
    "artifact_missing": _Said(
        "code_missing",
        "The built code of this version is not on this machine any more. It is being built again; try in a minute.",
    ),
    "broken": _Said(
        "code_broken",
        "The server's code has crashed again and again, and is not started until it is restarted or a new version "
        "is published. Its log says why.",
    ),
    "busy": _Said("code_busy", "The server's code has more calls waiting than it gets done."),
    "died": _Said("code_crashed", "The server's code ended before it answered. Its log says why."),
    "no_room": _Said("code_no_room", "All room for servers that are code is taken."),
    "over_share": _Said(
        "code_over_share",
        "This organisation's code has as many processes, or as much memory, as it may have at once, and all of them "
        "are at work.",
    ),
    "session_ended": _Said(
        "code_session_ended",
        "The process that was kept for you has ended, and what it held is gone. The next call begins anew.",
    ),
    "runner_away": _Said(
        "runner_away", "Uploaded code cannot be run at the moment: its runner is not there."
    ),
    "tampered": _Said(
        "code_tampered",
        "The built code of this version is not as it was built, so it is not run. It is being built again; try in a "
        "minute.",
    ),
    "timed_out": _Said("upstream_timeout", "The server's code did not answer in time."),
    "too_large": _Said("argument_refused", "The call is larger than the server's code may be sent."),
    "unready": _Said("code_starting", "The server's code is not ready yet."),
    "unsafe": _Said(
        "code_unsafe",
        "This installation runs no uploaded code, since its machine cannot hold it. Its health page says what is "
        "missing.",
    ),
}
_RESTING = _Said("code_resting", "The server's code has crashed and rests before it is started again.")
# What an older answer may stand in for; who has lost what was kept has to hear of it.
DOWN = frozenset(said.failure for said in (*_SAID.values(), _OTHER, _RESTING)) - {
    "argument_refused",
    "code_session_ended",
}
# A rest up to this is waited out by a call, which then goes on as if nothing had been.
PATIENCE_SECONDS = 2.5


class Away(Refused):
    """Of ours: there is no runner to be asked."""

    code = "runner_away"
    status = 503

    def __init__(self) -> None:
        super().__init__("There is no runner.", retry_after=2.0)


class Unserved(CallFailed):
    """The code does not run here now."""

    is_local = True


class Resting(Unserved):
    """Nothing was done; after `seconds` it may be."""

    def __init__(self, said: _Said, seconds: float) -> None:
        again = max(1, math.ceil(seconds))
        super().__init__(said.failure, _with_hint(said.sentence, again), Verdict.UNKNOWN, again)
        self.seconds = seconds


class Forgotten(SessionLost):
    """The runner knows nothing of the instance, having been started again or not being there; nothing was done."""

    is_local = True

    def __init__(self) -> None:
        said = _SAID["runner_away"]
        CallFailed.__init__(self, said.failure, said.sentence, Verdict.UNKNOWN)


class CutOff(Unreachable):
    """The runner went away in the middle of a call. It starts again by itself, so no breaker need learn of it."""

    is_local = True

    def __init__(self) -> None:
        CallFailed.__init__(
            self,
            "runner_away",
            "The runner of the server's code went away during the call; whether it was carried out is not known.",
            Verdict.UNKNOWN,
        )


def failed_of(refused: Refused) -> CallFailed:
    """The runner counts crashes and rests by itself, so only time that ran out is the breaker's matter."""
    after = refused.data.get("retry_after")
    seconds = float(after) if isinstance(after, int | float) else 0.0
    said = _SAID.get(refused.code, _OTHER)
    if refused.code == "unready":
        return Resting(_RESTING if "log" in refused.data else said, seconds)
    if refused.code in ("unknown", "unauthorized"):
        return Forgotten()
    again = math.ceil(seconds)
    verdict = Verdict.FAILED if refused.code == "timed_out" else Verdict.UNKNOWN
    kind = CallFailed if refused.code in _OF_THE_CALL else Unserved
    return kind(said.failure, _with_hint(said.sentence, again), verdict, again)


def _with_hint(sentence: str, again: int) -> str:
    return f"{sentence} Try again in {again} s." if again else sentence


# ---- as they travel --------------------------------------------------------------------------------------


class _Written(msgspec.Struct):
    code: str
    message: str = ""
    data: dict[str, Any] = {}


class _Body(msgspec.Struct):
    error: _Written


_body = msgspec.json.Decoder(_Body)


def refusal_in(body: bytes) -> Refused | None:
    """The runner's own, whose code is a word; None for what the code has answered."""
    try:
        written = _body.decode(body).error
    except (msgspec.MsgspecError, RecursionError):
        return None
    return refusal(written.code, written.message, written.data)
