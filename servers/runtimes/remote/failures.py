"""What can go wrong between us and an upstream. No text here tells an address or what the inside looks like."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec

from servers.runtimes.breaker import Verdict, failure_of, verdict_of
from servers.runtimes.remote.bounds import SENTENCE
from servers.runtimes.upstreams import Busy, Unavailable

# What a terminal or a reader could be fooled with; line feed and tab stay.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)


class CallFailed(Exception):
    """No answer. `failure` is a stable code for the record, `sentence` is for people, `verdict` for the breaker.

    `retry_after` is in seconds, or 0. With `is_local` it is this installation that cannot, not who was asked.
    """

    is_local: ClassVar[bool] = False

    def __init__(
        self, failure: str, sentence: str, verdict: Verdict = Verdict.FAILED, retry_after: int = 0
    ) -> None:
        super().__init__(sentence)
        self.failure = failure
        self.sentence = sentence
        self.verdict = verdict
        self.retry_after = retry_after


class Unreachable(CallFailed):
    """The connection failed; whether the request arrived is not known."""

    def __init__(self) -> None:
        super().__init__(
            "upstream_unreachable",
            "The upstream could not be reached. Try again later, or check its address in the server's settings.",
        )


class RpcError(msgspec.Struct, gc=False):
    """The `error` of a JSON-RPC answer."""

    code: int
    message: str = ""
    data: Any = None


class Refused(CallFailed):
    """The upstream answered with a JSON-RPC error. It works and did not want this, unless the status said otherwise."""

    def __init__(self, error: RpcError, verdict: Verdict = Verdict.SUCCEEDED) -> None:
        said = legible(error.message)
        failure = "upstream_failed" if verdict is Verdict.FAILED else "upstream_error"
        super().__init__(failure, f"The upstream refused: {said or error.code}", verdict)
        self.error = error


class NotOpened(CallFailed):
    """The upstream refused a session with a JSON-RPC error, which is about that and not about what a caller sent."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.failure, refused.sentence, refused.verdict)


class BadStatus(CallFailed):
    """An HTTP status that is no success. `error` is the JSON-RPC error in its body, `is_ours` when it has our id."""

    def __init__(self, status: int, error: RpcError | None = None, *, is_ours: bool = False) -> None:
        failure, sentence = _of_status(status)
        super().__init__(failure, sentence, verdict_of(status))
        self.status = status
        self.error = error
        self.is_ours = is_ours

    @property
    def is_transient(self) -> bool:
        """It says nothing about what the upstream speaks: it is busy, failing or wants other credentials."""
        return self.status < 400 or self.status >= 500 or self.status in (401, 403, 408, 425, 429)


class SessionLost(CallFailed):
    """The upstream does not know the session any more; it did nothing."""

    def __init__(self) -> None:
        super().__init__(
            "upstream_session_lost", "The upstream ended the session again and again. Try again later."
        )


class ClientSessionEnded(CallFailed):
    """What was kept for the session of our own client is gone; the client has to open another."""

    def __init__(self) -> None:
        super().__init__(
            "session_ended",
            "The process that was kept for this session has ended, and what it held is gone. Send initialize again.",
            Verdict.UNKNOWN,
        )


class EraMistaken(CallFailed):
    """The upstream may not speak what it was found to speak; it did nothing.

    `why` is what to say when it turns out that it does. `is_gone` when trying the same again would be of no use, since
    what was there is not. `believed` is the era, and the client's to set.
    """

    def __init__(self, why: CallFailed, *, is_gone: bool = False) -> None:
        super().__init__(why.failure, why.sentence, why.verdict)
        self.why = why
        self.is_gone = is_gone
        self.believed: object = None


def _of_status(status: int) -> tuple[str, str]:
    if status in (401, 403):
        return (
            "upstream_unauthorized",
            f"The upstream does not accept its credentials (status {status}). "
            "Check the headers and secrets in the server's settings.",
        )
    if 300 <= status < 400:
        return (
            "upstream_redirect",
            "The upstream redirects. Redirects are not followed; put the final address into the server's settings.",
        )
    return failure_of(status), f"The upstream answered with status {_named(status)}."


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def timed_out(seconds: float) -> CallFailed:
    return CallFailed(
        "upstream_timeout", f"The upstream did not answer within {seconds:.3g} s. Try again later."
    )


def unavailable(why: Unavailable) -> CallFailed:
    return CallFailed(why.failure, str(why), Verdict.UNKNOWN, why.retry_after)


def busy() -> CallFailed:
    return unavailable(Busy())


def invalid(why: str) -> CallFailed:
    return CallFailed("upstream_invalid", why)


def broken_off() -> CallFailed:
    return invalid("The upstream's answer broke off or could not be unpacked.")


def too_large(limit: int) -> CallFailed:
    return CallFailed(
        "answer_too_large",
        f"The upstream's answer is larger than {limit:,} bytes, the limit.",
        Verdict.SUCCEEDED,
    )


def refused_argument(sentence: str) -> CallFailed:
    return CallFailed("argument_refused", sentence, Verdict.UNKNOWN)


def legible(text: str) -> str:
    """An upstream's words without what could fool a reader, and not too many of them."""
    text = _CONTROLS.sub("", text[: 2 * SENTENCE]).strip()
    return text if len(text) <= SENTENCE else text[: SENTENCE - 1] + "…"
