"""JSON-RPC errors of MCP and the HTTP status each has in either era (protocol.md 1.8)."""

from __future__ import annotations

from typing import Any

PARSE, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
RESOURCE_NOT_FOUND = -32002  # handshake revisions only
HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION = -32020, -32021, -32022

_STATUS_MODERN = {METHOD_NOT_FOUND: 404, INTERNAL: 500}


class ProtocolError(Exception):
    """An answer in JSON-RPC's error form.

    `http` overrides the status; without it the status follows from the code and the era. `reason` is the stable
    code for the record of the call.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        data: dict[str, Any] | None = None,
        http: int | None = None,
        reason: str = "",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
        self.http = http
        self.reason = reason or _REASONS.get(code, "error")
        self.headers = headers

    def status(self, *, is_modern: bool) -> int:
        if self.http is not None:
            return self.http
        if is_modern:
            return _STATUS_MODERN.get(self.code, 400)
        return 400 if self.code in (PARSE, INVALID_REQUEST) else 200

    def as_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            body["data"] = self.data
        return body


_REASONS = {
    PARSE: "parse_error",
    INVALID_REQUEST: "invalid_request",
    METHOD_NOT_FOUND: "method_not_found",
    INVALID_PARAMS: "invalid_params",
    INTERNAL: "internal",
    RESOURCE_NOT_FOUND: "resource_not_found",
    HEADER_MISMATCH: "header_mismatch",
    MISSING_CAPABILITY: "missing_capability",
    UNSUPPORTED_VERSION: "unsupported_version",
}


def invalid_params(message: str, **data: Any) -> ProtocolError:
    return ProtocolError(INVALID_PARAMS, message, data=data or None)


def method_not_found(method: str) -> ProtocolError:
    return ProtocolError(METHOD_NOT_FOUND, f"The method {method[:80]!r} does not exist here.")


def resource_not_found(uri: str, *, is_modern: bool) -> ProtocolError:
    code = INVALID_PARAMS if is_modern else RESOURCE_NOT_FOUND
    return ProtocolError(
        code, f"There is no resource {uri[:200]!r}.", data={"uri": uri}, reason="resource_not_found"
    )
