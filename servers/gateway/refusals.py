"""The data plane's border for errors: every refusal in the terms of the client's revision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict

import msgspec
import structlog

from mooring.errors import ClientError, MooringError, RateLimited, ServerError, Unauthenticated
from servers.gateway.answering import JSON, TEXT, Header, send_answer
from servers.gateway.request import Receive, Scope, Send
from servers.pipeline.call import Call
from servers.protocol.errors import INTERNAL, ProtocolError
from servers.protocol.revisions import FEATURES, MODERN, is_modern_header

log = structlog.get_logger(__name__)


class Terms(TypedDict):
    """What an answer must be fitted to: the client's revision ("" when unknown), its request's id, and ours."""

    revision: str
    request: int | str | None
    request_id: str


Refusal = tuple[int, bytes, list[Header], Header]


class NotAllowed(ClientError):
    code = "method_not_allowed"
    status = 405


class NotAcceptable(ClientError):
    code = "not_acceptable"
    status = 406


class UnsupportedMedia(ClientError):
    code = "unsupported_media_type"
    status = 415


class Misdirected(ClientError):
    code = "misdirected"
    status = 421


class LoopDetected(ClientError):
    code = "loop_detected"
    status = 508


class BadOrigin(ClientError):
    code = "bad_origin"
    status = 403


def of(error: Exception, call: Call, terms: Terms, *, challenge: str = "") -> Refusal:
    """What a call that failed is answered with; the call is marked as refused.

    This is the border: an error that is none of ours is a bug, which is logged and answered without its text.
    """
    call.status = "refused"
    if isinstance(error, ProtocolError):
        call.code = error.reason
        return of_protocol(error, **terms)
    if isinstance(error, MooringError):
        call.code = error.reason
        return of_domain(error, **terms, challenge=challenge)
    log.error("gateway.failed", request_id=call.request_id, exc_info=error)
    call.code = "internal"
    return of_bug(**terms)


def of_protocol(
    error: ProtocolError, *, revision: str, request: int | str | None, request_id: str
) -> Refusal:
    """A JSON-RPC error. Without an id the older revisions have no such body, so they get its sentence as text."""
    status = error.status(is_modern=revision == MODERN)
    error.data = {**(error.data or {}), "requestId": request_id} if error.code > 0 else error.data
    return _shaped(status, error.as_json(), error.message, revision, request, list(error.headers))


def of_domain(
    error: MooringError, *, revision: str, request: int | str | None, request_id: str, challenge: str = ""
) -> Refusal:
    """Own codes are the HTTP status as a positive integer, with `data {code, class, retryAfter, requestId}`."""
    data: dict[str, Any] = {"code": error.reason, "class": error.error_class, "requestId": request_id}
    headers: list[Header] = []
    if isinstance(error, RateLimited):
        seconds = max(1, math.ceil(error.retry_after))
        data["retryAfter"] = seconds
        headers = [(b"retry-after", str(seconds).encode()), *_rate_fields(error, seconds)]
    if isinstance(error, ServerError) and error.status == 503:
        headers.append((b"retry-after", b"1"))
    if isinstance(error, Unauthenticated) and challenge:
        headers.append((b"www-authenticate", _challenge(error, challenge).encode()))
    if isinstance(error, NotAllowed):
        headers.append((b"allow", b"POST, DELETE"))
    body = {"code": error.status, "message": error.message, "data": data}
    return _shaped(error.status, body, error.message, revision, request, headers)


def of_bug(*, revision: str, request: int | str | None, request_id: str) -> Refusal:
    body = {
        "code": INTERNAL,
        "message": "Something went wrong here. It is noted under this request's id.",
        "data": {"code": "internal", "class": "server", "requestId": request_id},
    }
    return _shaped(500, body, str(body["message"]), revision, request, [])


def revision_of(headers: Mapping[str, str]) -> str:
    """What the version header claims, for an answer that is sent before the body is read."""
    version = headers.get("mcp-protocol-version", "")
    if is_modern_header(version):
        return MODERN
    return version if version in FEATURES else ""


def _shaped(
    status: int,
    error: dict[str, Any],
    text: str,
    revision: str,
    request: int | str | None,
    headers: list[Header],
) -> Refusal:
    if request is not None:
        return status, msgspec.json.encode({"jsonrpc": "2.0", "id": request, "error": error}), headers, JSON
    if revision and FEATURES[revision].error_without_id:
        return status, msgspec.json.encode({"jsonrpc": "2.0", "error": error}), headers, JSON
    return status, text.encode(), headers, TEXT


def _rate_fields(error: RateLimited, seconds: int) -> list[Header]:
    """RateLimit fields (draft-ietf-httpapi-ratelimit-headers)."""
    limit = error.data.get("limit")
    if not isinstance(limit, int):
        return []
    name = error.reason.replace("_", "-")
    return [
        (b"ratelimit-policy", f'"{name}";q={limit};w=60'.encode()),
        (b"ratelimit", f'"{name}";r=0;t={seconds}'.encode()),
    ]


def _challenge(error: Unauthenticated, metadata: str) -> str:
    challenge = f'Bearer resource_metadata="{metadata}"'
    if error.reason == "unauthenticated":
        return challenge
    return f'{challenge}, error="invalid_token", error_description="{error.message.replace(chr(34), "")}"'


async def not_found(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Everything else, on a process that serves the data plane alone."""
    await send_answer(send, 404, b"There is nothing here.", kind=TEXT)
