"""From an upstream's answer to the answer of a tool."""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Literal

import msgspec
from yarl import URL

from servers.runtimes.base import Outcome, text_outcome
from servers.runtimes.breaker import failure_of
from servers.runtimes.http.definition import ResponseMapping
from servers.runtimes.http.exchange import Answer
from servers.runtimes.http.masking import Mask

ERROR_CHARACTERS = 2_000
# Deeper structures could be read here and yet break the encoder of the whole answer, further down the stack.
DEEPEST = 200

# What a terminal or a reader could be fooled with; line feed and tab stay.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_MIME = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+")
_TEXTUAL = frozenset(
    {
        "application/ecmascript",
        "application/graphql",
        "application/javascript",
        "application/sql",
        "application/toml",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
        "application/x-yaml",
        "application/xml",
        "application/yaml",
    }
)
_INVALID = "upstream_invalid"
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Media:
    """A content type as far as it matters here."""

    mime: str
    charset: str
    kind: Literal["json", "text", "image", "audio", "binary", "unknown"]


def outcome(answer: Answer, mapping: ResponseMapping, mask: Mask, request_id: str) -> Outcome:
    if answer.status >= 300:
        return _refusal(answer, mask)
    if not answer.body:
        return text_outcome(f"(empty answer, status {answer.status})")
    media = media_of(answer.headers.get("Content-Type", ""))
    if (
        mapping.kind == "json"
        or mapping.pick
        or (mapping.kind == "auto" and media.kind in {"json", "unknown"})
    ):
        found = _json_outcome(answer.body, media, mapping, mask)
        if found is not None:
            return found
    if mapping.kind == "text" or (mapping.kind == "auto" and media.kind in {"json", "text"}):
        return text_outcome(mask.text(_decoded(answer.body, media)))
    if mapping.kind == "auto" and media.kind == "unknown":
        return _unlabelled(answer.body, mask, request_id)
    return _binary_outcome(answer.body, media, mask, request_id)


@lru_cache(maxsize=512)
def media_of(content_type: str) -> Media:
    message = Message()
    message["Content-Type"] = content_type.replace("\n", " ").replace("\r", " ")[:500]
    mime = content_type.partition(";")[0].strip().lower()
    if not _MIME.fullmatch(mime):
        return Media("application/octet-stream", "", "unknown")
    return Media(mime, _charset(message.get_param("charset")), _kind(mime))


def _charset(parameter: object) -> str:
    try:
        return codecs.lookup(parameter).name if isinstance(parameter, str) else ""
    except (LookupError, ValueError):
        return ""


def _kind(mime: str) -> Literal["json", "text", "image", "audio", "binary"]:
    if mime in {"application/json", "text/json"} or mime.endswith("+json"):
        return "json"
    if mime.startswith("image/"):
        return "image"
    if mime.startswith("audio/"):
        return "audio"
    return "text" if mime.startswith("text/") or mime.endswith("+xml") or mime in _TEXTUAL else "binary"


# ---- JSON ------------------------------------------------------------------------------------------------


def _json_outcome(body: bytes, media: Media, mapping: ResponseMapping, mask: Mask) -> Outcome | None:
    """None when the answer is no JSON and none was asked for."""
    value = _parsed(body, media)
    if value is _MISSING:
        asked = mapping.kind == "json" or mapping.pick
        return _failed("The upstream's answer is not valid JSON.") if asked else None
    if mapping.pick:
        value = picked(value, mapping.pick)
        if value is _MISSING:
            return _failed(f"The upstream's answer has nothing at {mapping.pick}.")
    value, text = mask.json(value, msgspec.json.encode(value).decode())
    return Outcome([{"type": "text", "text": text}], value)


def _failed(sentence: str) -> Outcome:
    return text_outcome(sentence, is_error=True, failure=_INVALID)


def _parsed(body: bytes, media: Media) -> Any:
    try:
        if media.charset not in {"", "utf-8", "ascii"}:
            body = body.decode(media.charset).encode()
        value = msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeError, LookupError, RecursionError):
        return _MISSING
    if body.count(b"[") + body.count(b"{") > DEEPEST and _is_too_deep(value):
        return _MISSING
    return value


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


def picked(value: Any, pointer: str) -> Any:
    """The part of a JSON value that a pointer (RFC 6901) leads to, or `_MISSING`."""
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and len(key) < 10 and int(key) < len(value):
            value = value[int(key)]
        else:
            return _MISSING
    return value


# ---- text and bytes --------------------------------------------------------------------------------------


def _decoded(body: bytes, media: Media) -> str:
    try:
        return body.decode(media.charset or "utf-8-sig", "replace")
    except LookupError:  # a codec of Python that is no charset, such as "hex"
        return body.decode("utf-8", "replace")


def _unlabelled(body: bytes, mask: Mask, request_id: str) -> Outcome:
    try:
        return text_outcome(mask.text(body.decode("utf-8-sig")))
    except UnicodeDecodeError:
        return _binary_outcome(body, Media("application/octet-stream", "", "binary"), mask, request_id)


def _binary_outcome(body: bytes, media: Media, mask: Mask, request_id: str) -> Outcome:
    data = base64.b64encode(mask.data(body)).decode()
    mime = mask.text(media.mime)
    if media.kind in {"image", "audio"}:
        return Outcome([{"type": media.kind, "data": data, "mimeType": mime}])
    resource = {"uri": f"answer:{request_id or 'body'}", "mimeType": mime, "blob": data}
    return Outcome([{"type": "resource", "resource": resource}])


# ---- refusals of the upstream ----------------------------------------------------------------------------


def _refusal(answer: Answer, mask: Mask) -> Outcome:
    if answer.status < 400 and "Location" in answer.headers:
        return _redirect(answer.headers, mask)
    said = f"The upstream answered with status {_named(answer.status)}."
    body = _shown(answer, mask)
    return text_outcome(
        f"{said}\n\n{body}" if body else said, is_error=True, failure=failure_of(answer.status)
    )


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _shown(answer: Answer, mask: Mask) -> str:
    media = media_of(answer.headers.get("Content-Type", ""))
    if media.kind in {"image", "audio", "binary"}:
        return ""
    # Masked before it is cut, so that no half of a secret is left at the end.
    text = _CONTROLS.sub("", mask.text(_decoded(answer.body, media))).strip()
    return text if len(text) <= ERROR_CHARACTERS else text[: ERROR_CHARACTERS - 1] + "…"


def _redirect(headers: Mapping[str, str], mask: Mask) -> Outcome:
    try:
        host = URL(headers["Location"]).host
    except ValueError:
        host = "an address that is none"
    target = _CONTROLS.sub("", mask.text(host or "another path of the same host"))
    return text_outcome(
        f"The upstream redirects to {target}. Redirects are not followed; "
        "put the final address into the tool's settings.",
        is_error=True,
        failure="upstream_redirect",
    )
