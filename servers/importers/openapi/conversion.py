"""One schema of OpenAPI 3.0 or 3.1 → JSON Schema 2020-12, its references pointing into `$defs`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from servers.importers.openapi.findings import LeaveOut
from servers.importers.openapi.keywords import (
    ANNOTATIONS,
    APPLICATORS,
    SCHEMA_LISTS,
    SCHEMA_MAPS,
    SCHEMAS,
    is_linear_pattern,
    is_number,
    plain_keyword,
    types,
)
from servers.importers.openapi.reading import mapping, sequence, text
from servers.importers.openapi.references import MAX_HOPS, Found, References

Direction = Literal["input", "output"]
MAX_NESTING = 20  # levels inside one schema, references not counted
ANYTHING = "Not described any further here; any value is accepted."


@dataclass
class Conversion:
    """Converts one schema. `uses` counts the definitions it refers to.

    `name_of` gives the name in `$defs` for a pointer. In the input direction readOnly properties are left out, in
    the output direction writeOnly ones are, and answers may carry more than they are described with.
    """

    references: References
    direction: Direction
    siblings_count: bool  # 3.1: keywords beside `$ref` apply; 3.0: they are ignored
    name_of: Callable[[str], str]
    base: str = "#"
    uses: Counter[str] = field(default_factory=Counter)

    def convert(
        self, schema: object, *, hidden: frozenset[str] = frozenset(), depth: int = 0
    ) -> dict[str, Any]:
        """Raises `LeaveOut` when a reference leads nowhere or out of the document."""
        if not isinstance(schema, dict):
            return {"not": {}} if schema is False else {}
        if depth > MAX_NESTING:
            return {"description": ANYTHING}
        if "properties" in schema or "allOf" in schema:
            hidden |= self.hidden_names(schema)
        reference = self._reference(schema)
        result = self._plain(schema, only_annotations=bool(reference) and not self.siblings_count)
        if reference:
            result |= reference
        if not reference or self.siblings_count:
            result |= self._applied(schema, hidden, depth)
            self._bounds(schema, result)
            self._required(schema, result, hidden)
            self._discriminator(schema, result)
        return _nullable(_collapsed(result)) if schema.get("nullable") is True else _collapsed(result)

    # ---- references

    def _reference(self, schema: dict[str, Any]) -> dict[str, Any]:
        for keyword in ("$ref", "$dynamicRef"):
            if isinstance(schema.get(keyword), str):
                return self._refer(schema[keyword])
        return {}

    def _refer(self, reference: str) -> dict[str, Any]:
        pointer = self._destination(reference)
        if pointer is None:
            return {}
        name = self.name_of(pointer)
        self.uses[name] += 1
        return {"$ref": f"#/$defs/{name}"}

    def _destination(self, reference: str) -> str | None:
        """The pointer of a schema that is more than a reference; None when references only lead in a circle."""
        for _ in range(MAX_HOPS):
            found = self.references.find(reference, self.base)
            if isinstance(found.value, bool):
                return found.pointer
            if not isinstance(found.value, dict):
                raise LeaveOut(
                    f"It refers to `{reference[:200]}`, which is not a schema. Correct that `$ref`."
                )
            onward = mapping(found.value).get("$ref")
            if not isinstance(onward, str) or (self.siblings_count and len(found.value) > 1):
                return found.pointer
            reference = onward
        return None

    # ---- keywords

    def _plain(self, schema: dict[str, Any], *, only_annotations: bool) -> dict[str, Any]:
        result = {}
        for keyword, value in schema.items():
            if only_annotations and keyword not in ANNOTATIONS:
                continue
            stays, usable = plain_keyword(keyword, value)
            if stays:
                result[keyword] = usable
        if "examples" not in result and "example" in schema:
            stays, usable = plain_keyword("examples", [schema["example"]])
            if stays:
                result["examples"] = usable
        return result

    def _applied(self, schema: dict[str, Any], hidden: frozenset[str], depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        if (kind := types(schema.get("type"))) is not None:
            result["type"] = kind
        for keyword, value in schema.items():
            if keyword not in APPLICATORS:
                continue
            if isinstance(value, dict) and keyword in SCHEMA_MAPS:
                result |= self._map(keyword, value, hidden, depth)
            elif isinstance(value, list) and value:
                result |= self._list(keyword, value, hidden, depth)
            elif isinstance(value, dict | bool) and keyword in SCHEMAS:
                result |= self._single(keyword, value, depth)
        return result

    def _list(self, keyword: str, branches: list[Any], hidden: frozenset[str], depth: int) -> dict[str, Any]:
        if keyword == "items":
            keyword = "prefixItems"  # the spelling before 2020-12
        if keyword not in SCHEMA_LISTS:
            return {}
        inner = hidden if keyword == "allOf" else frozenset()
        return {keyword: [self.convert(part, hidden=inner, depth=depth + 1) for part in branches]}

    def _map(self, keyword: str, parts: dict[str, Any], hidden: frozenset[str], depth: int) -> dict[str, Any]:
        if keyword == "properties":
            kept = {name: part for name, part in parts.items() if name not in hidden}
            return {
                keyword: {name: self.property(name, part, depth=depth + 1) for name, part in kept.items()}
            }
        usable = {
            name: part
            for name, part in parts.items()
            if keyword != "patternProperties" or is_linear_pattern(name)
        }
        return {keyword: {name: self.convert(part, depth=depth + 1) for name, part in usable.items()}}

    def property(self, name: str, part: object, *, depth: int = 0) -> dict[str, Any]:
        result = self.convert(part, depth=depth)
        if _letters(result.get("title")) == _letters(name):
            del result["title"]  # generators repeat the name there
        return result

    def _single(self, keyword: str, part: dict[str, Any] | bool, depth: int) -> dict[str, Any]:
        if isinstance(part, dict):
            return {keyword: self.convert(part, depth=depth + 1)}
        if part is True or (
            self.direction == "output" and keyword in ("additionalProperties", "unevaluatedProperties")
        ):
            return {}  # true says nothing, and answers grow fields over time
        return {keyword: False}

    def _bounds(self, schema: dict[str, Any], result: dict[str, Any]) -> None:
        """3.0: `minimum: 5, exclusiveMinimum: true` → 2020-12: `exclusiveMinimum: 5`."""
        for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if schema.get(exclusive) is True and is_number(result.get(bound)):
                result[exclusive] = result.pop(bound)
        kind = result.get("type")
        if kind == "string" and "enum" in result:
            result["enum"] = [_as_text(choice) for choice in result["enum"]]

    def _required(self, schema: dict[str, Any], result: dict[str, Any], hidden: frozenset[str]) -> None:
        """Hidden properties are asked of nobody; `required: true` on a property is meant for its parent."""
        slips = [
            name
            for name, part in mapping(schema.get("properties")).items()
            if mapping(part).get("required") is True
        ]
        names = [name for name in [*result.pop("required", []), *slips] if name not in hidden]
        if names:
            result["required"] = list(dict.fromkeys(names))

    def _discriminator(self, schema: dict[str, Any], result: dict[str, Any]) -> None:
        """Tells people and models how to choose; validators ignore it, so the mapping names schemas plainly."""
        given = mapping(schema.get("discriminator"))
        name = text(given.get("propertyName"))
        if not name:
            return
        kinds = {
            value: target.rpartition("/")[2]
            for value, target in mapping(given.get("mapping")).items()
            if isinstance(target, str)
        }
        result["discriminator"] = {"propertyName": name} | ({"mapping": kinds} if kinds else {})

    # ---- what a direction hides

    def hidden_names(self, schema: object) -> frozenset[str]:
        """Properties of a schema, through `$ref` and allOf, that this direction leaves out."""
        names: set[str] = set()
        seen: set[str] = set()
        waiting = [mapping(schema)]
        while waiting and len(seen) < MAX_HOPS:
            node = waiting.pop()
            names.update(name for name, part in mapping(node.get("properties")).items() if self.hides(part))
            waiting += map(mapping, sequence(node.get("allOf")))
            target = self._target_or_none(node)
            if target and target.pointer not in seen:
                seen.add(target.pointer)
                waiting.append(mapping(target.value))
        return frozenset(names)

    def hides(self, schema: object) -> bool:
        flag = "readOnly" if self.direction == "input" else "writeOnly"
        node = mapping(schema)
        if flag in node:
            return node[flag] is True
        target = self._target_or_none(node)
        return target is not None and mapping(target.value).get(flag) is True

    def _target_or_none(self, node: dict[str, Any]) -> Found | None:
        reference = node.get("$ref")
        try:
            return self.references.find(reference, self.base) if isinstance(reference, str) else None
        except LeaveOut:
            return None  # converting the reference itself says so


def _collapsed(result: dict[str, Any]) -> dict[str, Any]:
    """`allOf` around a single schema is how 3.0 puts a description beside a `$ref`."""
    branches = result.get("allOf", ())
    if len(branches) != 1 or not ANNOTATIONS.issuperset(result.keys() - {"allOf"}):
        return result
    return {**branches[0], **{keyword: value for keyword, value in result.items() if keyword != "allOf"}}


def _nullable(result: dict[str, Any]) -> dict[str, Any]:
    """3.0's `nullable: true`: null is a value too."""
    if any(keyword in result for keyword in ("$ref", "allOf", "anyOf", "oneOf", "not", "const")):
        lifted = {keyword: result.pop(keyword) for keyword in ANNOTATIONS & result.keys()}
        return {"anyOf": [result, {"type": "null"}], **lifted}
    if "type" in result:
        result["type"] = types([*_listed(result["type"]), "null"])
    if "enum" in result and None not in result["enum"]:
        result["enum"] = [*result["enum"], None]
    return result


def _listed(kind: str | list[str]) -> list[str]:
    return [kind] if isinstance(kind, str) else kind


def _as_text(choice: object) -> object:
    """YAML reads the choice `10` of a string as a number."""
    if isinstance(choice, bool):
        return "true" if choice else "false"
    return str(choice) if isinstance(choice, int | float) else choice


def _letters(value: object) -> str:
    return "".join(c for c in value.casefold() if c.isalnum()) if isinstance(value, str) else "\0"
