"""The one tree of domain errors.

MooringError
├── ClientError            the caller can mend it
│   ├── InvalidInput       422
│   ├── Unauthenticated    401
│   ├── Forbidden          403
│   ├── NotFound           404   foreign and missing alike
│   ├── Conflict           409
│   ├── TooLarge           413
│   └── RateLimited        429
├── ServerError            ours to mend
│   └── Unavailable        503
└── ExternalError          somebody else's: an origin, an upstream
    ├── UpstreamFailed     502
    └── UpstreamTimeout    504

Raised in the domain; turned into answers at three borders only: `mooring.api.errors`, `mooring.dashboard.middleware`
and `servers.gateway.refusals`. Anything else that is raised is a bug and answers 500 with a request id.
"""

from __future__ import annotations

from typing import ClassVar, Literal

ErrorClass = Literal["client", "server", "external"]


class MooringError(Exception):
    """A refusal with a stable code for programs, a sentence for people and an HTTP status."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    error_class: ClassVar[ErrorClass] = "server"

    def __init__(self, message: str, *, code: str | None = None, **data: object) -> None:
        super().__init__(message)
        self.message = message
        self.reason = code or self.code
        self.data = data

    def as_dict(self) -> dict[str, object]:
        """Shape of every error body: `{"code", "class", "message", "data"}`."""
        return {"code": self.reason, "class": self.error_class, "message": self.message, "data": self.data}


class ClientError(MooringError):
    code = "bad_request"
    status = 400
    error_class = "client"


class InvalidInput(ClientError):
    """`data["fields"]`, when given, maps a field's name to a list of sentences."""

    code = "invalid_input"
    status = 422


class Unauthenticated(ClientError):
    code = "unauthenticated"
    status = 401


class Forbidden(ClientError):
    code = "forbidden"
    status = 403


class NotFound(ClientError):
    code = "not_found"
    status = 404

    def __init__(
        self, message: str = "There is nothing here by that name.", *, code: str | None = None, **data: object
    ) -> None:
        super().__init__(message, code=code, **data)


class Conflict(ClientError):
    code = "conflict"
    status = 409


class TooLarge(ClientError):
    code = "too_large"
    status = 413


class RateLimited(ClientError):
    """`retry_after` is in seconds."""

    code = "rate_limited"
    status = 429

    def __init__(self, message: str, *, retry_after: float, code: str | None = None, **data: object) -> None:
        super().__init__(message, code=code, **data)
        self.retry_after = retry_after


class ServerError(MooringError):
    code = "internal"


class Unavailable(ServerError):
    code = "unavailable"
    status = 503


class ExternalError(MooringError):
    code = "external"
    status = 502
    error_class = "external"


class UpstreamFailed(ExternalError):
    code = "upstream_failed"


class UpstreamTimeout(ExternalError):
    code = "upstream_timeout"
    status = 504
