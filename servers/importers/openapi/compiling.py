"""Making sure that every schema of an import is one that the data plane takes, without checking parts over again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from mooring.errors import InvalidInput
from servers.importers.openapi.closures import flattened
from servers.importers.openapi.findings import LeaveOut
from servers.schemas import compile_schema

# Only with these can parts that are fine alone be too much together: their costs multiply or are limited in number.
_COSTLY = re.compile(
    rb'"(allOf|anyOf|oneOf|not|if|pattern|patternProperties|dependentSchemas|contains|propertyNames|unevaluated\w+)":'
)


def check_alone(schema: dict[str, Any], uses: Iterable[str]) -> None:
    """Check a schema without those it refers to. Raises `LeaveOut`."""
    _check({**schema, "$defs": {name: {} for name in uses}})


def usable(schema: dict[str, Any], root: dict[str, Any], uses: Iterable[str]) -> dict[str, Any]:
    """`schema`, made of `root` and checked definitions; its first levels alone when it costs too much to check.

    Raises `LeaveOut` when even they are refused.
    """
    check_alone(root, uses)
    if not _COSTLY.search(msgspec.json.encode(schema)):
        return schema
    try:
        _check(schema)
        return schema
    except LeaveOut:
        flat = flattened(schema)
        _check(flat)
        return flat


def _check(schema: dict[str, Any]) -> None:
    try:
        compile_schema(schema)
    except InvalidInput as error:
        raise LeaveOut(f"Its schema is not usable. {error.message}") from None
