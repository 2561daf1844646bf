"""Putting an argument into a request, in the styles of OpenAPI. Encoded, never concatenated.

An encoder is made once for a parameter and turns a JSON value into finished text; "" is nothing to send.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from servers.runtimes.http.definition import Parameter

Encoder = Callable[[Any], str]

# Cookie octets of RFC 6265 that need no escape; "%" is escaped so that unescaping gives the value back.
_COOKIE_SAFE = "!#$&'()*+-./:<=>?@[]^_`{|}~"
_HEADER_TEXT = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DELIMITERS = {"form": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}
_DEEPEST = 16


class ArgumentRefused(ValueError):
    """The caller gave a value that cannot stand where it belongs; the text says which and why."""


def encoder(parameter: Parameter) -> Encoder:
    if parameter.content_type:
        return _ENCODERS[parameter.place](parameter, as_text(parameter))
    return _ENCODERS[parameter.place](parameter, None)


def as_text(parameter: Parameter) -> Encoder:
    """How a parameter with a content type of its own becomes one string."""
    if "json" not in parameter.content_type:
        return scalar
    ascii_only = parameter.place == "header"
    return lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only)


def scalar(value: Any) -> str:
    """A JSON value as the text of one item."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return str(value) if type(value) is int else msgspec.json.encode(value).decode()


def escaped(value: Any) -> str:
    """Percent-encoded but for the unreserved characters."""
    text = scalar(value)
    return text if text.isalnum() and text.isascii() else quote(text, safe="")


def cookie_text(value: Any) -> str:
    return quote(scalar(value), safe=_COOKIE_SAFE)


def header_text(value: str) -> str | None:
    """The value of a header, or None for what would be a second header, or no text a header can carry."""
    value = value.strip(" \t\r\n")
    return value if _HEADER_TEXT.fullmatch(value) else None


def is_token(name: str) -> bool:
    return _TOKEN.fullmatch(name) is not None


def given_items(value: list[Any]) -> list[Any]:
    return [item for item in value if item is not None]


def given_pairs(value: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(key, item) for key, item in value.items() if item is not None]


# ---- path ------------------------------------------------------------------------------------------------


def _path(parameter: Parameter, text_of: Encoder | None) -> Encoder:
    argument = parameter.argument
    expand = {"simple": _simple, "label": _label, "matrix": _matrix}[parameter.style_used]
    name, explode = escaped(parameter.name), parameter.explodes
    is_plain = text_of is None and parameter.style_used == "simple"

    def encode(value: Any) -> str:
        if is_plain and isinstance(value, str) and value.isalnum() and value.isascii():
            return value  # most of them are names and numbers
        if _is_blank(value):
            raise ArgumentRefused(f"{argument} must not be empty: it is a part of the address.")
        text = expand(name, value if text_of is None else text_of(value), explode)
        if "." in text or "%25" in text:
            _refuse_climbing(argument, text)
        return text

    return encode


def _is_blank(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(_is_blank(item) for item in (value.values() if isinstance(value, dict) else value))
    return value is None or value == ""


def _refuse_climbing(argument: str, text: str) -> None:
    # Escaped slashes are taken for real ones by many a server, and some unescape once more.
    for _ in range(4):
        if not {".", ".."}.isdisjoint(re.split(r"[/\\]", text)):
            raise ArgumentRefused(f"{argument} must not hold the path segments . or ..; leave them out.")
        text = unquote(text)


def _simple(name: str, value: Any, explode: bool, between: str = ",") -> str:
    if isinstance(value, list):
        return between.join(escaped(item) for item in given_items(value))
    if isinstance(value, dict):
        glue = "=" if explode else ","
        return between.join(f"{escaped(key)}{glue}{escaped(item)}" for key, item in given_pairs(value))
    return escaped(value)


def _label(name: str, value: Any, explode: bool) -> str:
    return "." + _simple(name, value, explode, "." if explode else ",")


def _matrix(name: str, value: Any, explode: bool) -> str:
    if explode and isinstance(value, list):
        return "".join(f";{name}={escaped(item)}" for item in given_items(value))
    if explode and isinstance(value, dict):
        return "".join(f";{escaped(key)}={escaped(item)}" for key, item in given_pairs(value))
    return f";{name}={_simple(name, value, explode=False)}"


# ---- query -----------------------------------------------------------------------------------------------


def _query(parameter: Parameter, text_of: Encoder | None) -> Encoder:
    name, explode = escaped(parameter.name), parameter.explodes
    if text_of is not None:
        return lambda value: f"{name}={escaped(text_of(value))}"
    if parameter.style_used == "deepObject":
        return lambda value: "&".join(_deep(name, value, 0))
    delimiter = _DELIMITERS[parameter.style_used]

    def encode(value: Any) -> str:
        if type(value) is str:
            return f"{name}={escaped(value)}"
        return _form(name, value, explode, "&", delimiter, escaped)

    return encode


def _form(
    name: str, value: Any, explode: bool, between: str, delimiter: str, escape: Callable[[Any], str]
) -> str:
    if isinstance(value, list):
        items = [escape(item) for item in given_items(value)]
        if explode:
            return between.join(f"{name}={item}" for item in items)
        return f"{name}={delimiter.join(items)}" if items else ""
    if isinstance(value, dict):
        pairs = [(escape(key), escape(item)) for key, item in given_pairs(value)]
        if explode:
            return between.join(f"{key}={item}" for key, item in pairs)
        return f"{name}={delimiter.join(part for pair in pairs for part in pair)}" if pairs else ""
    return "" if value is None else f"{name}={escape(value)}"


def _deep(name: str, value: Any, depth: int) -> list[str]:
    if depth > _DEEPEST:
        raise ArgumentRefused(f"{unquote(name)} is nested too deeply.")
    if isinstance(value, dict):
        return [
            text
            for key, item in given_pairs(value)
            for text in _deep(f"{name}%5B{escaped(key)}%5D", item, depth + 1)
        ]
    if isinstance(value, list):
        return [text for item in given_items(value) for text in _deep(name, item, depth + 1)]
    return [] if value is None else [f"{name}={escaped(value)}"]


# ---- header and cookie -----------------------------------------------------------------------------------


def _header(parameter: Parameter, text_of: Encoder | None) -> Encoder:
    argument, explode = parameter.argument, parameter.explodes

    def encode(value: Any) -> str:
        text = header_text(_header_value(value, explode) if text_of is None else text_of(value))
        if text is None:
            raise ArgumentRefused(f"{argument} holds line breaks or characters that a header cannot carry.")
        return text

    return encode


def _header_value(value: Any, explode: bool) -> str:
    if isinstance(value, list):
        return ",".join(scalar(item) for item in given_items(value))
    if isinstance(value, dict):
        glue = "=" if explode else ","
        return ",".join(f"{key}{glue}{scalar(item)}" for key, item in given_pairs(value))
    return scalar(value)


def _cookie(parameter: Parameter, text_of: Encoder | None) -> Encoder:
    name, explode = parameter.name, parameter.explodes
    if text_of is not None:
        return lambda value: f"{name}={cookie_text(text_of(value))}"
    return lambda value: _form(name, value, explode, "; ", "%2C", cookie_text)


_ENCODERS = {"path": _path, "query": _query, "header": _header, "cookie": _cookie}
