"""Why the runner does not do what it was asked.

Refused
├── Malformed        400   the request to the runner makes no sense
├── Unauthorized     401   no or a wrong bearer
├── Unknown          404   no instance by that key
├── Missing          410   there is no artifact by that digest here; it has to be built again
├── SessionEnded     410   the process that a session had for itself is gone, with what it held
├── TooLarge         413   a message beyond the line limit
├── Unbuildable      422   an upload that cannot become an artifact, by its own fault
├── Busy             429   all slots and the queue are taken
├── Tampered         500   an artifact is not what was built, and must not run
├── Died             502   the process ended while it was called, or while it started
├── BuildFailed      502   the package index or this machine is at fault, not the upload
├── Unready          503   draining, or resting after a crash; `retry_after` says how long
├── Broken           503   crashed too often; a new version or a manual stop begins anew
├── NoRoom           503   the memory budget of all is used up
├── OverShare        503   what one tenant or server may have at once is used up
├── Unsafe           503   this machine cannot hold strangers' code
└── TimedOut         504   no answer within the call's time

`servers.runner.serving` turns them into HTTP, `servers.runner.client` turns them back.
"""

from __future__ import annotations

from typing import Any, ClassVar


class Refused(Exception):
    """A sentence for people, a stable code for programs, and what is known besides (`data`, JSON)."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 500

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data

    @property
    def written(self) -> dict[str, Any]:
        """As it travels between processes."""
        return {"code": self.code, "message": self.message, "data": self.data}


class Malformed(Refused):
    code = "malformed"
    status = 400


class Unauthorized(Refused):
    code = "unauthorized"
    status = 401


class Unknown(Refused):
    code = "unknown"
    status = 404


class Missing(Refused):
    """Not `Unknown`, since what is to be done is another thing: building the upload again."""

    code = "artifact_missing"
    status = 410


class SessionEnded(Refused):
    """`data["reason"]` is why. Whoever has no session to open anew is told once, and served by another process then."""

    code = "session_ended"
    status = 410


class TooLarge(Refused):
    code = "too_large"
    status = 413


class Unbuildable(Refused):
    """The upload is at fault, in a sentence that says how to mend it.

    `data` may hold `stage`, `file`, `line` (from 1), `block` (text to paste into the file) and `log` (last lines).
    """

    code = "unbuildable"
    status = 422


class Busy(Refused):
    code = "busy"
    status = 429


class Died(Refused):
    """`data["reason"]` is why, `data["log"]` holds the last lines of its log."""

    code = "died"
    status = 502


class BuildFailed(Refused):
    """Trying again later may help. `data` as that of `Unbuildable`."""

    code = "build_failed"
    status = 502


class Tampered(Refused):
    code = "tampered"
    status = 500


class Unready(Refused):
    """`data["retry_after"]` is in seconds."""

    code = "unready"
    status = 503


class Broken(Refused):
    """`data["log"]` holds the last lines of its log."""

    code = "broken"
    status = 503


class NoRoom(Refused):
    code = "no_room"
    status = 503


class OverShare(Refused):
    """Others still find room. `data["limit"]` says which bound it was: memory, instances or sessions."""

    code = "over_share"
    status = 503


class Unsafe(Refused):
    """`data["missing"]` lists in words what this machine does not enforce."""

    code = "unsafe"
    status = 503


class TimedOut(Refused):
    code = "timed_out"
    status = 504


def refusal(code: str, message: str, data: dict[str, Any]) -> Refused:
    """The refusal that another process has written down."""
    # Looked up now: others than those above may have been made since this module was imported.
    kinds = {kind.code: kind for kind in Refused.__subclasses__()}
    return kinds.get(code, Refused)(message, **data)
