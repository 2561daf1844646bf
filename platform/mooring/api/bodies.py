"""Reading request bodies. Stricter than DRF's parsers: what a database could not keep is refused here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import msgspec
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from mooring.errors import InvalidInput


class JsonBody(BaseParser):
    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        raw = stream.read()
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(f"The body is not JSON: {error}.", code="not_json") from None
        except RecursionError:
            raise InvalidInput("The body is nested too deeply.", code="not_json") from None
        if b"\\u0000" in raw and _holds_nul(value):
            raise InvalidInput("Text must not hold the character U+0000.", code="not_json")
        return value


def text_of(request: Request) -> str:
    """The body as text whatever its media type: OpenAPI documents are sent under many."""
    try:
        text: str = request._request.body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput("The body is not UTF-8 text.", code="not_text") from None
    if "\x00" in text:
        raise InvalidInput("Text must not hold the character U+0000.", code="not_text")
    return text


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in name or _holds_nul(inner) for name, inner in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))
