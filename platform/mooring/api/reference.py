"""The API's documentation page as plain data, read from its OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mooring.api.schema import METHODS

Schema = dict[str, Any]
_ORDER = (
    "Organisation",
    "Servers",
    "Draft",
    "Tools",
    "Versions",
    "Channels",
    "Secrets",
    "Keys",
    "Records",
)


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    kind: str
    place: str
    is_required: bool
    about: str


@dataclass(frozen=True, slots=True)
class Answer:
    status: str
    about: str
    fields: list[Field]


@dataclass(frozen=True, slots=True)
class Operation:
    anchor: str
    method: str
    path: str
    summary: str
    about: str
    parameters: list[Field]
    body: list[Field]
    answers: list[Answer]


def groups_of(document: Schema) -> dict[str, list[Operation]]:
    """Tag → its operations. What people need first comes first; what is not named here comes last."""
    groups: dict[str, list[Operation]] = {tag: [] for tag in _ORDER}
    for path, methods in document["paths"].items():
        for method in METHODS:
            if operation := methods.get(method):
                tag = (operation.get("tags") or ["Other"])[0]
                groups.setdefault(tag, []).append(_operation(document, path, method, operation))
    return groups


def _operation(document: Schema, path: str, method: str, operation: Schema) -> Operation:
    return Operation(
        anchor=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        about=operation.get("description", ""),
        parameters=[_parameter(document, parameter) for parameter in operation.get("parameters", [])],
        body=list(_body(document, operation.get("requestBody", {}))),
        answers=[
            Answer(status, answer.get("description", ""), list(_body(document, answer)))
            for status, answer in operation["responses"].items()
            if status != "default"
        ],
    )


def _parameter(document: Schema, parameter: Schema) -> Field:
    return Field(
        name=parameter["name"],
        kind=_kind(document, parameter.get("schema", {})),
        place=parameter["in"],
        is_required=parameter.get("required", False),
        about=parameter.get("description", ""),
    )


def _body(document: Schema, holder: Schema) -> Iterator[Field]:
    media: Schema = next(iter(holder.get("content", {}).values()), {})
    yield from _fields(document, media.get("schema", {}), "")


def _fields(document: Schema, schema: Schema, prefix: str) -> Iterator[Field]:
    """One level of names, and the names of what a list holds as `data[].name`."""
    schema = _resolved(document, schema)
    required = set(schema.get("required", []))
    for name, inner in schema.get("properties", {}).items():
        whole = _resolved(document, inner)
        yield Field(
            f"{prefix}{name}",
            _kind(document, inner),
            "body",
            name in required,
            inner.get("description", whole.get("description", "")),
        )
        if whole.get("type") == "array" and not prefix:
            yield from _fields(document, whole.get("items", {}), f"{name}[].")


def _resolved(document: Schema, schema: Schema) -> Schema:
    if "allOf" in schema and len(schema["allOf"]) == 1:
        schema = schema["allOf"][0]
    reference = schema.get("$ref", "")
    return document["components"]["schemas"][reference.rsplit("/", 1)[1]] if reference else schema


def _kind(document: Schema, schema: Schema) -> str:
    whole = _resolved(document, schema)
    if "enum" in whole:
        return " | ".join(map(str, whole["enum"]))
    kind = whole.get("type", "any JSON")
    names = kind if isinstance(kind, list) else [kind]
    text = " or ".join(names) + (" or null" if whole.get("nullable") else "")
    if names[0] == "array":
        return f"list of {_kind(document, whole.get('items', {}))}"
    return f"{text} ({whole['format']})" if "format" in whole else text
