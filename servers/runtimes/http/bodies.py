"""Bodies of requests: JSON, forms, multipart and text."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote_plus

import msgspec

from servers.runtimes.http.definition import Body
from servers.runtimes.http.placing import ArgumentRefused, given_items, scalar

# Arguments → the bytes and their content type, or None for a request without a body.
BodyEncoder = Callable[[Mapping[str, Any]], tuple[bytes, str] | None]

_MEDIA_TYPE = re.compile(
    r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:\s*;\s*[\w!#$&^.+-]+=(?:[\w!#$&^.+:-]+|\"[^\"\x00-\x1f]*\"))*"
)
_FORM_NAME = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})
_NOTHING = object()


def compile_body(body: Body | None) -> BodyEncoder | None:
    """Raise ValueError for a content type that is none."""
    if body is None:
        return None
    if not _MEDIA_TYPE.fullmatch(body.content_type):
        raise ValueError(f"{body.content_type!r} is not a content type; write one such as application/json.")
    media = body.content_type.partition(";")[0].strip().lower()
    take, content_type = _taker(body), body.content_type
    if media == "multipart/form-data":
        return _multipart(take, _binary_names(body))
    write = _writer(media, body.binary is True)

    def encode(arguments: Mapping[str, Any]) -> tuple[bytes, str] | None:
        value = take(arguments)
        return None if value is _NOTHING else (write(value), content_type)

    return encode


def _taker(body: Body) -> Callable[[Mapping[str, Any]], Any]:
    """What finds the body's value among the arguments, or `_NOTHING`."""
    if body.argument is not None:
        argument, required = body.argument, body.required

        def take_whole(arguments: Mapping[str, Any]) -> Any:
            value = arguments.get(argument, _NOTHING)
            if value is _NOTHING and required:
                raise ArgumentRefused(f"{argument} is missing: it is the body of the request.")
            return value

        return take_whole
    fields = list((body.fields or {}).items())
    when_empty: Any = {} if body.required else _NOTHING

    def take_fields(arguments: Mapping[str, Any]) -> Any:
        return {name: arguments[argument] for name, argument in fields if argument in arguments} or when_empty

    return take_fields


def _writer(media: str, binary: bool) -> Callable[[Any], bytes]:
    if binary:
        return _unbase64
    if media == "application/json" or media.endswith("+json"):
        return msgspec.json.encode
    if media == "application/x-www-form-urlencoded":
        return _urlencoded
    return lambda value: scalar(value).encode()


def _urlencoded(value: Any) -> bytes:
    pairs = [(name, item) for name, items in _fields(value) for item in items]
    return "&".join(f"{quote_plus(name)}={quote_plus(scalar(item))}" for name, item in pairs).encode()


def _fields(value: Any) -> Iterable[tuple[str, list[Any]]]:
    if not isinstance(value, dict):
        raise ArgumentRefused("The body of a form must be an object.")
    for name, item in value.items():
        yield name, given_items(item if isinstance(item, list) else [item])


def _binary_names(body: Body) -> frozenset[str]:
    return frozenset(body.binary) if isinstance(body.binary, list) else frozenset()


def _multipart(take: Callable[[Mapping[str, Any]], Any], binary: frozenset[str]) -> BodyEncoder:
    def encode(arguments: Mapping[str, Any]) -> tuple[bytes, str] | None:
        value = take(arguments)
        if value is _NOTHING:
            return None
        # Random, so that no value can hold it and end its own part.
        boundary = secrets.token_hex(16)
        parts = [
            _part(boundary, name, item, name in binary) for name, items in _fields(value) for item in items
        ]
        return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"

    return encode


def _part(boundary: str, name: str, item: Any, binary: bool) -> bytes:
    shown = name.translate(_FORM_NAME)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{shown}"'
    if binary:
        head += f'; filename="{shown}"\r\nContent-Type: application/octet-stream'
    elif isinstance(item, dict | list):
        head += "\r\nContent-Type: application/json"
    content = _unbase64(item) if binary else scalar(item).encode()
    return head.encode() + b"\r\n\r\n" + content + b"\r\n"


def _unbase64(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ArgumentRefused("A file must be given as base64 text.") from None
