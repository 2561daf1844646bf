"""Text that somebody hands in, as plain JSON values: JSON or YAML 1.2, bounded, with errors that say what to do."""

from __future__ import annotations

import codecs
import json
import math
from typing import Any, NoReturn

from mooring.errors import InvalidInput
from servers.importers import yaml_core
from servers.importers.bounds import MANIFEST_BYTES, MANIFEST_NODES, MAX_BYTES, MAX_NODES, Bounds, check_text

# UTF-32's mark begins with UTF-16's, so it is looked for first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def parse(raw: bytes | str) -> dict[str, Any]:
    """The document's fields. Values are plain JSON: keys are text, numbers finite, text without lone surrogates.

    Collections that a YAML alias repeats are shared, so treat the result as read-only.
    Raises `InvalidInput` for anything else, also for what is too large, too deep or a bomb.
    """
    text = _decode(raw)
    check_size(text)
    _check_head(text.lstrip()[:200])
    return _fields(_parse_json(text) if looks_like_json(text) else yaml_core.load(text))


def parse_json(text: str) -> dict[str, Any]:
    """The same of JSON alone, for a web process: see `is_read_at_once`."""
    check_size(text)
    try:
        return _fields(_load_json(_decode(text)))
    except json.JSONDecodeError as error:
        raise _broken_json(error) from None


def check_size(text: str) -> None:
    """Refuse what no reader here takes. Of JSON only reading it tells whether it is a manifest, and may be larger."""
    size = len(text) if text.isascii() else len(text.encode(errors="replace"))
    if size > (MANIFEST_BYTES if looks_like_json(text) else MAX_BYTES):
        refuse_size()


def is_read_at_once(text: str) -> bool:
    """Whether a web process may read it. YAML is slow, and so is a manifest larger than other documents may be."""
    return looks_like_json(text) and len(text) <= MAX_BYTES


def refuse_size() -> NoReturn:
    raise InvalidInput(
        f"The document is larger than {MAX_BYTES // 2**20} MiB, and a manifest in JSON may have "
        f"{MANIFEST_BYTES // 2**20} MiB. Remove the parts you do not need and try again.",
        code="document_too_large",
        fields={"document": ["It is too large."]},
    )


def looks_like_json(text: str) -> bool:
    return text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[")


def _check_head(head: str) -> None:
    if not head:
        raise InvalidInput(
            "The document is empty. Paste it again, or choose another file.", code="document_empty"
        )
    if head.startswith("<"):
        _refuse_markup(head)


def _fields(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(
            "The document holds no named fields. An OpenAPI document starts with a line like `openapi: 3.1.0`.",
            code="not_a_document",
        )
    return value


def _decode(raw: bytes | str) -> str:
    if isinstance(raw, str):
        text = raw.removeprefix("\ufeff")
        try:
            text.encode()
        except UnicodeEncodeError:
            _refuse_encoding()
        return text
    if len(raw) > MANIFEST_BYTES:
        refuse_size()
    return _decode_bytes(raw)


def _decode_bytes(raw: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), None) or json.detect_encoding(
        raw
    )
    try:
        return raw.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError:
        _refuse_encoding()


def _refuse_encoding() -> NoReturn:
    raise InvalidInput("The document is not readable text. Save it as UTF-8 and try again.", code="not_text")


def _refuse_markup(head: str) -> NoReturn:
    if "html" in head.lower():
        raise InvalidInput(
            "That is a web page, not an API document. Use the address of the JSON or YAML file itself; "
            "the page usually links to it.",
            code="web_page",
        )
    raise InvalidInput("That is XML. Give an OpenAPI 3 document in JSON or YAML.", code="not_a_document")


def _parse_json(text: str) -> object:
    try:
        return _load_json(text)
    except json.JSONDecodeError as error:
        return _parse_flow_yaml(text, error)


def _parse_flow_yaml(text: str, error: json.JSONDecodeError) -> object:
    """YAML may begin with a brace too. When it is neither, JSON's complaint is the one that helps."""
    if len(text) > MAX_BYTES:
        raise _broken_json(error) from None
    try:
        return yaml_core.load(text)
    except InvalidInput as refusal:
        if refusal.reason != "yaml_syntax":
            raise
        raise _broken_json(error) from None


def _broken_json(error: json.JSONDecodeError) -> InvalidInput:
    return InvalidInput(
        f"The JSON is broken at line {error.lineno}, column {error.colno}: {error.msg}.", code="json_syntax"
    )


def _load_json(text: str) -> object:
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_number, parse_float=_float, parse_int=_int
        )
    except RecursionError:
        Bounds.refuse_depth()
    is_manifest = isinstance(value, dict) and "mooring" in value
    if not is_manifest and len(text) > MAX_BYTES:
        refuse_size()
    Bounds(MANIFEST_NODES if is_manifest else MAX_NODES).check(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            check_text(key)
            raise InvalidInput(
                f"The key “{key[:100]}” occurs twice in one object. Remove one.", code="duplicate_key"
            )
        seen.add(key)
    return result


def _float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text)


def _int(text: str) -> int | float:
    number = yaml_core.whole_number(text)
    return number if number is not None else _refuse_number(text)


def _refuse_number(text: str) -> NoReturn:
    raise InvalidInput(
        f"The document holds the number {text[:40]}, which JSON cannot carry.", code="bad_number"
    )
