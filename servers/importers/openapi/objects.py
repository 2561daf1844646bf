"""Seeing an object's properties through `$ref` and allOf, so that a body's become arguments of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from servers.importers.openapi.reading import mapping, sequence
from servers.importers.openapi.references import MAX_HOPS, References

# With one of these an object is more than a list of properties.
_CONDITIONS = (
    "anyOf", "oneOf", "not", "if", "then", "else", "patternProperties", "dependentSchemas", "dependentRequired",
    "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties", "enum", "const",
)  # fmt: skip


@dataclass
class Shape:
    """Properties of an object as the document has them; several schemas for one name must all hold."""

    properties: dict[str, list[Any]] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)
    bases: dict[str, str] = field(
        default_factory=dict
    )  # pointers of the schemas that the properties stand in

    def schema(self, name: str) -> Any:
        parts = self.properties[name]
        return parts[0] if len(parts) == 1 else {"allOf": parts}


def shape_of(schema: object, references: References) -> Shape | None:
    """None when it is not an object, is an open map, or holds conditions. Raises `LeaveOut` like `References`."""
    shape = Shape()
    waiting, steps = [(schema, "#")], 0
    while waiting:
        steps += 1
        node, base = waiting.pop(0)
        if steps > MAX_HOPS or not isinstance(node, dict) or _is_more_than_properties(node):
            return None
        if isinstance(node.get("$ref"), str):
            found = references.find(node["$ref"], base)
            waiting.insert(0, (found.value, found.pointer))
        _add(shape, node, base)
        waiting[:0] = [(branch, base) for branch in sequence(node.get("allOf"))]
    return shape if shape.properties else None


def _is_more_than_properties(node: dict[str, Any]) -> bool:
    if node.get("type", "object") != "object" or node.get("nullable") is True:
        return True
    if mapping(node.get("additionalProperties")):
        return True
    return any(node.get(keyword) not in (None, [], {}) for keyword in _CONDITIONS)


def _add(shape: Shape, node: dict[str, Any], base: str) -> None:
    for name, part in mapping(node.get("properties")).items():
        known = shape.properties.setdefault(name, [])
        shape.bases.setdefault(name, base)
        if part not in known:
            known.append(part)
        if mapping(part).get("required") is True:
            shape.required.append(name)
    names = [name for name in sequence(node.get("required")) if isinstance(name, str)]
    shape.required += [name for name in names if name not in shape.required]


def is_object(schema: object, references: References) -> bool:
    """Whether every value of it is an object. Raises `LeaveOut`."""
    node = mapping(schema)
    for _ in range(MAX_HOPS):
        if node.get("nullable") is True:
            return False
        if "type" in node:
            return bool(node["type"] in ("object", ["object"]))
        if node.get("properties"):
            return True
        onward = node.get("allOf") or node.get("anyOf") or node.get("oneOf")
        if isinstance(node.get("$ref"), str):
            node = mapping(references.find(node["$ref"]).value)
        elif isinstance(onward, list) and onward and ("allOf" in node or len(onward) == 1):
            node = mapping(onward[0])
        else:
            return False
    return False
