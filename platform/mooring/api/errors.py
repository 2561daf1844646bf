"""One of the three borders where errors become answers.

The one shape is `{"error": {"code", "class", "message", "data", "request_id"}}`.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions as drf
from rest_framework.response import Response

from mooring.errors import (
    ClientError,
    Forbidden,
    InvalidInput,
    MooringError,
    NotFound,
    RateLimited,
    ServerError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from mooring.ids import uuid7
from mooring.logs import request_id
from tenants.access import KEY_NEEDED

logger = logging.getLogger(__name__)


class MethodNotAllowed(ClientError):
    code = "method_not_allowed"
    status = 405


class NotAcceptable(ClientError):
    code = "not_acceptable"
    status = 406


class UnsupportedMediaType(ClientError):
    code = "unsupported_media_type"
    status = 415


def answer(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's exception handler. Never raises; what nobody foresaw is logged once and answered 500."""
    known = translated(error)
    if known is None:
        logger.exception("An API request failed.", exc_info=error)
        known = ServerError("Something went wrong on our side. Tell the operator the request id.")
    return Response(body_of(known), status=known.status, headers=_headers(known, error))


def body_of(error: MooringError) -> dict[str, object]:
    return {"error": error.as_dict() | {"request_id": request_id.get() or str(uuid7())}}


def _headers(known: MooringError, error: Exception) -> dict[str, str]:
    if isinstance(known, Unauthenticated):
        return {"WWW-Authenticate": 'Bearer realm="mooring"'}
    if isinstance(known, RateLimited):
        return {"Retry-After": str(math.ceil(known.retry_after))}
    if isinstance(known, Unavailable):
        return {"Retry-After": "2"}
    return {}


def translated(error: Exception) -> MooringError | None:
    """The refusal that a foreign exception means, or None when it is a bug."""
    match error:
        case MooringError():
            return error
        case drf.ValidationError():
            return _invalid(error.detail)
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            return Unauthenticated(KEY_NEEDED)
        case Http404() | drf.NotFound():
            return NotFound()
        case PermissionDenied() | drf.PermissionDenied():
            return Forbidden("You may not do this.")
        case RequestDataTooBig():
            most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 2**20
            return TooLarge(f"The request body is too large. Send at most {most} MiB.")
        case OperationalError() | InterfaceError():
            logger.warning("The database did not answer an API request.", exc_info=error)
            return Unavailable("The database is busy or away. Try again in a moment.")
        case drf.APIException() | SuspiciousOperation():
            return _protocol_error(error)
    return None


def _protocol_error(error: Exception) -> MooringError:
    match error:
        case drf.MethodNotAllowed():
            return MethodNotAllowed("This address does not answer that method.")
        case drf.NotAcceptable():
            return NotAcceptable("Answers are JSON only. Send `Accept: application/json`.")
        case drf.UnsupportedMediaType():
            return UnsupportedMediaType("Send the body as `Content-Type: application/json`.")
    return ClientError("The request could not be read.")


def _invalid(detail: Any) -> InvalidInput:
    fields = _sentences(detail if isinstance(detail, dict) else {"body": detail})
    name, sentences = next(iter(fields.items()))
    return InvalidInput(f"{name}: {sentences[0]}", fields=fields)


def _sentences(detail: dict[str, Any], prefix: str = "") -> dict[str, list[str]]:
    """DRF's nested details as one level of `field.inner` → sentences."""
    flat: dict[str, list[str]] = {}
    for name, inner in detail.items():
        path = f"{prefix}{name}"
        if isinstance(inner, dict):
            flat |= _sentences(inner, f"{path}.")
        elif inner and all(isinstance(item, str) for item in inner):
            flat[path] = [str(item) for item in inner]
        else:
            flat |= _sentences({str(i): item for i, item in enumerate(inner) if item}, f"{path}.")
    return flat
