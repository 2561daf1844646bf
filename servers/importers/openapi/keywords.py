"""The keywords of JSON Schema 2020-12 that tools keep, and what makes a value of each usable.

Descriptions in the wild hold `"required": true`, `"type": "file"` or look-ahead patterns, and a single one of them
would make the whole schema fail to compile. A keyword whose value is unusable is dropped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mooring.errors import InvalidInput
from servers.importers.openapi.reading import shorten
from servers.schemas import compile_schema

MAX_DESCRIPTION = 1_000  # characters; of one property
MAX_EXAMPLE = 400  # characters of JSON
MAX_PATTERN = 2_000
MAX_CHOICES = 2_000  # of an enum; more are no help to anyone who has to choose
MAX_VALUE_LEVELS = 5

SCHEMA_MAPS = ("properties", "patternProperties", "dependentSchemas")
SCHEMA_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
SCHEMAS = (
    "items", "contains", "additionalProperties", "unevaluatedProperties", "unevaluatedItems",
    "propertyNames", "not", "if", "then", "else",
)  # fmt: skip
APPLICATORS = frozenset({*SCHEMA_MAPS, *SCHEMA_LISTS, *SCHEMAS})
ANNOTATIONS = frozenset({"title", "description", "default", "deprecated", "examples"})
_TYPES = ("null", "boolean", "object", "array", "number", "integer", "string")
# Names that other languages have for the same types.
_TYPE_SLIPS = {
    "int": "integer", "long": "integer", "float": "number", "double": "number", "decimal": "number",
    "bool": "boolean", "str": "string", "file": "string", "date": "string", "datetime": "string",
    "uuid": "string", "list": "array", "dict": "object", "map": "object",
}  # fmt: skip
_DROP = object()


def plain_keyword(keyword: str, value: object) -> tuple[bool, Any]:
    """Whether a keyword without subschemas can stay, and its usable value."""
    read = _READERS.get(keyword)
    usable = _DROP if read is None else read(value)
    return usable is not _DROP, usable


def types(value: object) -> str | list[str] | None:
    """A usable `type`; None when nothing of it is."""
    given = value if isinstance(value, list) else [value]
    known = [_TYPE_SLIPS.get(name, name) for name in given if isinstance(name, str)]
    kept = list(dict.fromkeys(name for name in known if name in _TYPES))
    if not kept or len(kept) != len(dict.fromkeys(known)):
        return None
    return kept[0] if len(kept) == 1 else kept


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@lru_cache(maxsize=10_000)
def is_linear_pattern(pattern: str) -> bool:
    """Whether the linear-time engine takes it: no look-around, no back-references."""
    if len(pattern) > MAX_PATTERN:
        return False
    try:
        compile_schema({"pattern": pattern})
    except InvalidInput:
        return False
    return True


def _text(value: object) -> object:
    return value if isinstance(value, str) and value else _DROP


def _description(value: object) -> object:
    return shorten(value.strip(), MAX_DESCRIPTION) if isinstance(value, str) and value.strip() else _DROP


def _flag(value: object) -> object:
    return value if isinstance(value, bool) else _DROP


def _true(value: object) -> object:
    return True if value is True else _DROP


def _number(value: object) -> object:
    return value if is_number(value) else _DROP


def _positive(value: object) -> object:
    return value if isinstance(value, int | float) and is_number(value) and value > 0 else _DROP


def _size(value: object) -> object:
    if not isinstance(value, int | float) or not is_number(value) or value < 0 or value != int(value):
        return _DROP
    return min(int(value), 2**63 - 1)


def _pattern(value: object) -> object:
    return value if isinstance(value, str) and is_linear_pattern(value) else _DROP


def _is_shallow(value: object, levels: int = MAX_VALUE_LEVELS) -> bool:
    """Schemas may not be nested deep, and neither may the values in them."""
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return levels > 0 and all(_is_shallow(part, levels - 1) for part in parts)
    return True


def _shallow(value: object) -> object:
    return value if _is_shallow(value) else _DROP


def _small(value: object) -> object:
    return value if _is_shallow(value) and len(json.dumps(value)) <= MAX_EXAMPLE else _DROP


def _examples(value: object) -> object:
    kept = (
        [example for example in value if _small(example) is not _DROP][:3] if isinstance(value, list) else []
    )
    return kept or _DROP


def _enum(value: object) -> object:
    """Each value once; `1` and `true` are different values."""
    if not isinstance(value, list) or len(value) > MAX_CHOICES or not _is_shallow(value):
        return _DROP
    return list({json.dumps(choice, sort_keys=True): choice for choice in value}.values()) or _DROP


def _names(value: object) -> object:
    names = [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
    return list(dict.fromkeys(names)) or _DROP


def _names_of_names(value: object) -> object:
    if not isinstance(value, dict):
        return _DROP
    lists = {name: _names(names) for name, names in value.items()}
    return {name: names for name, names in lists.items() if names is not _DROP} or _DROP


_READERS: dict[str, Callable[[object], object]] = {
    "title": _description,
    "description": _description,
    "default": _small,
    "examples": _examples,
    "deprecated": _true,
    "format": _text,
    "contentEncoding": _text,
    "contentMediaType": _text,
    "const": _shallow,
    "enum": _enum,
    "multipleOf": _positive,
    "maximum": _number,
    "minimum": _number,
    "exclusiveMaximum": _number,
    "exclusiveMinimum": _number,
    "maxLength": _size,
    "minLength": _size,
    "maxItems": _size,
    "minItems": _size,
    "maxContains": _size,
    "minContains": _size,
    "maxProperties": _size,
    "minProperties": _size,
    "pattern": _pattern,
    "uniqueItems": _flag,
    "required": _names,
    "dependentRequired": _names_of_names,
}
