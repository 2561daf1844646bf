"""Headers that mirror the body (revision 2026-07-28, "Header mirroring"): reading, encoding and comparing them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
_MARK, _END = "=?base64?", "?="
_TYPES = {"string", "integer", "boolean"}
_SAFE_INTEGER = 2**53 - 1


class MalformedHeader(ValueError):
    """The header's value cannot be decoded."""


@dataclass(frozen=True, slots=True)
class MirroredParameter:
    """One property annotated with `x-mcp-header`: its header and where its value lies in the arguments."""

    header: str  # lower case, `mcp-param-…`
    path: tuple[str, ...]
    kind: str


def decoded(value: str) -> str:
    """The text a header stands for. A value with only one of the two markers is a literal.

    Raises `MalformedHeader` for bad base64 or bytes that are not UTF-8.
    """
    value = value.strip(" \t")
    if not (value.startswith(_MARK) and value.endswith(_END) and len(value) >= len(_MARK) + len(_END)):
        return value
    try:
        return base64.b64decode(value[len(_MARK) : -len(_END)], validate=True).decode()
    except ValueError:  # also bytes that are not ASCII, or not UTF-8 once decoded
        raise MalformedHeader("The header's base64 cannot be read.") from None


def encoded(value: str) -> str:
    """The header's value for a text: as it is when it is plain and cannot be mistaken, else in base64."""
    if _PLAIN.fullmatch(value) and not (value.startswith(_MARK) and value.endswith(_END)):
        return value
    return f"{_MARK}{base64.b64encode(value.encode()).decode()}{_END}"


def mirrored_parameters(schema: Mapping[str, Any]) -> tuple[MirroredParameter, ...]:
    """The annotated properties of an input schema.

    Raises `ValueError` with a sentence when an annotation breaks the rules, since clients drop such a tool.
    """
    found: list[MirroredParameter] = []
    _collect(schema, (), found)
    names = [parameter.header for parameter in found]
    if len(set(names)) != len(names):
        raise ValueError("Two properties use the same x-mcp-header name; names differ by more than case.")
    if _annotations(schema) != len(found):
        raise ValueError(
            "x-mcp-header may stand only on properties reached from the root through `properties`."
        )
    return tuple(found)


def _collect(schema: Mapping[str, Any], path: tuple[str, ...], found: list[MirroredParameter]) -> None:
    properties = schema.get("properties")
    for name, part in properties.items() if isinstance(properties, dict) else ():
        if not isinstance(part, dict):
            continue
        if "x-mcp-header" in part:
            found.append(_checked(part, (*path, name)))
        _collect(part, (*path, name), found)


def _checked(part: Mapping[str, Any], path: tuple[str, ...]) -> MirroredParameter:
    label, kind = part["x-mcp-header"], part.get("type")
    if not isinstance(label, str) or not _TOKEN.fullmatch(label):
        raise ValueError(f"x-mcp-header of {'.'.join(path)!r} must be a header token such as `Region`.")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ValueError(
            f"{'.'.join(path)!r} has an x-mcp-header, so its type must be string, integer or boolean."
        )
    return MirroredParameter(f"mcp-param-{label.lower()}", path, kind)


def _annotations(node: Any) -> int:
    """How often `x-mcp-header` stands anywhere as a key of a schema."""
    count, stack = 0, [node]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            # An object is the schema of a property that happens to have this name.
            count += not isinstance(part.get("x-mcp-header", {}), dict)
            stack.extend(
                value for key, value in part.items() if key not in {"default", "const", "enum", "examples"}
            )
        elif isinstance(part, list):
            stack.extend(part)
    return count


def first_mismatch(
    parameters: tuple[MirroredParameter, ...], arguments: Mapping[str, Any], headers: Mapping[str, str]
) -> str | None:
    """A sentence about the first `Mcp-Param-*` header that does not equal its argument, or None."""
    for parameter in parameters:
        value: Any = arguments
        for step in parameter.path:
            value = value.get(step) if isinstance(value, Mapping) else None
        problem = _mismatch(parameter, value, headers.get(parameter.header))
        if problem:
            return problem
    return None


def _mismatch(parameter: MirroredParameter, value: Any, header: str | None) -> str | None:
    where = f"{parameter.header} and the argument {'.'.join(parameter.path)!r}"
    if value is None:
        return None if header is None else f"{where} differ: the argument is missing."
    if header is None:
        return f"{where} differ: the header is missing."
    try:
        text = decoded(header)
    except MalformedHeader as error:
        return f"{parameter.header}: {error}"
    return None if _equal(parameter.kind, value, text) else f"{where} differ."


def _equal(kind: str, value: Any, text: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean" and text == ("true" if value else "false")
    if isinstance(value, (int, float)):
        return kind == "integer" and _as_integer(text) == value and abs(value) <= _SAFE_INTEGER
    return isinstance(value, str) and text == value


def _as_integer(text: str) -> int | None:
    if not re.fullmatch(r"-?[0-9]{1,16}(?:\.0{1,16})?", text):
        return None
    return int(text.split(".")[0])
