"""The request a tool would send, with example arguments; nothing is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from servers.models import Server
from servers.runtimes.http.tool import PreparedRequest
from servers.runtimes.http.tool import preview as prepare

_EXAMPLES: dict[str, Any] = {
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "object": {},
    "null": None,
}


@dataclass(frozen=True, slots=True)
class Preview:
    """Either a request with the arguments it was drawn with, or the sentence that says why there is none."""

    request: PreparedRequest | None = None
    example: str = ""
    problem: str = ""


def preview_of(server: Server, definition: dict[str, Any], example: str) -> Preview:
    schema = definition.get("input_schema", {})
    try:
        arguments = json.loads(example) if example.strip() else example_of(schema)
        if not isinstance(arguments, dict):
            return Preview(problem="The example must be a JSON object in braces.")
        variables = {name: part.get("default", "") for name, part in server.variables.items()}
        request = prepare(definition["http"], arguments, variables=variables)
    except (ValueError, RecursionError) as error:
        return Preview(problem=str(error))
    return Preview(request, json.dumps(arguments, indent=2, ensure_ascii=False))


def example_of(schema: dict[str, Any]) -> dict[str, Any]:
    """A plausible value for each argument, from the schema's own examples and defaults where it has them."""
    properties = schema.get("properties")
    parts = properties.items() if isinstance(properties, dict) else ()
    return {name: _example(name, part if isinstance(part, dict) else {}) for name, part in parts}


def _example(name: str, part: dict[str, Any]) -> Any:
    if "default" in part:
        return part["default"]
    for key in ("examples", "enum"):
        if isinstance(part.get(key), list) and part[key]:
            return part[key][0]
    if "const" in part:
        return part["const"]
    kind = part.get("type")
    return _EXAMPLES.get(kind, name) if isinstance(kind, str) else name
