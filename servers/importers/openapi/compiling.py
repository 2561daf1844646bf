"""Making sure that every schema of an import is one that the data plane takes."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from mooring.errors import InvalidInput
from servers.importers.openapi.closures import flattened
from servers.importers.openapi.findings import LeaveOut
from servers.schemas import compile_schema

# Conversion lets only sound keywords through. What can still be refused is what multiplies, what is limited in
# number, and sheer size; compiling the thousands of schemas that hold none of it takes most of an import's time.
_COSTLY = re.compile(
    rb'"(allOf|anyOf|oneOf|not|if|pattern|patternProperties|dependentSchemas|contains|propertyNames|unevaluated\w+)":'
)
_SMALL = 48 * 1024


def usable(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema`, or its first levels alone when it costs too much to check.

    Raises `LeaveOut` when even they are refused.
    """
    encoded = msgspec.json.encode(schema)
    if len(encoded) <= _SMALL and not _COSTLY.search(encoded):
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
