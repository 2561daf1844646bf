"""Making a converted schema self-contained: what it refers to goes into it, or into its `$defs`, within bounds."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from servers.importers.openapi.conversion import ANYTHING
from servers.importers.openapi.findings import LeaveOut
from servers.importers.openapi.keywords import ANNOTATIONS, APPLICATORS, SCHEMA_LISTS, SCHEMAS
from servers.importers.openapi.reading import shorten

MAX_REFERENCES = 6  # steps from reference to reference; what lies deeper is cut
INLINE_BYTES = 200  # leaves no larger than this are written out up to
INLINE_TIMES = 4  # this many times, for clients that read `$defs` badly
KEEP_TEXTS_TO = 2  # levels that keep descriptions when a schema is too large
SHORT_TEXT = 100  # characters of a description, when that is not enough
KEEP_LEVELS = 4  # levels that stay at all when it is still too large
MAX_BYTES = 128 * 1024  # of one schema, after all shortening
MAX_LEVELS = 50  # of JSON; schemas and manifests may not be much deeper
_HOLDERS = APPLICATORS | {"$defs"}
_STUB_BYTES = 40  # what a cut part takes wherever it is referred to
PREFIX = "#/$defs/"


@dataclass(frozen=True)
class Definition:
    """A converted schema that others refer to, and the names it refers to itself."""

    name: str
    schema: dict[str, Any]
    uses: Counter[str]
    size: int


@dataclass(frozen=True)
class Whole:
    """A self-contained schema. `was_cut` tells that parts of it accept anything, to keep it small."""

    schema: dict[str, Any]
    was_cut: bool


def size(schema: object) -> int:
    """Bytes of JSON."""
    return len(msgspec.json.encode(schema))


def levels(value: object) -> int:
    """How deep a JSON value is nested."""
    depth, level = 0, [value]
    while level := [child for node in level for child in _children(node)]:
        depth += 1
    return depth


def _children(node: object) -> list[object]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def close(
    root: dict[str, Any], uses: Mapping[str, int], definition: Callable[[str], Definition], *, limit: int
) -> Whole:
    """`root` with everything it refers to, in about `limit` bytes. Circles stay circles inside `$defs`.

    Raises `LeaveOut` when the root alone is far larger, or when `definition` does.
    """
    gathered = _gather(root, uses, definition, limit)
    schema, was_cut = gathered.whole(root), bool(gathered.cut)
    if size(schema) > limit * 1.5:
        schema, was_cut = _reduced(schema, limit), True
    return Whole(schema, was_cut)


def complete(
    root: dict[str, Any], uses: Mapping[str, int], definition: Callable[[str], Definition], *, limit: int
) -> dict[str, Any] | None:
    """The same, or None when it takes more than the limit."""
    if size(root) > limit:
        return None
    gathered = _gather(root, uses, definition, limit)
    return None if gathered.cut else gathered.whole(root)


def _gather(
    root: dict[str, Any], uses: Mapping[str, int], definition: Callable[[str], Definition], limit: int
) -> _Gathered:
    """Breadth first, so that what is near the arguments is kept."""
    gathered = _Gathered({}, {}, Counter(uses))
    room = limit - size(root)
    waiting = deque((name, 1) for name in uses)
    while waiting:
        name, steps = waiting.popleft()
        if name in gathered.kept or name in gathered.cut:
            continue
        if steps > MAX_REFERENCES or room <= 0:
            gathered.cut[name] = {"description": f"{name}: any value."}
            continue
        part = definition(name)
        if part.size > room:
            gathered.cut[name] = _stub(part)
            continue
        room -= part.size + _STUB_BYTES * sum(onward in gathered.cut for onward in part.uses)
        gathered.kept[name] = part
        gathered.uses.update(part.uses)
        waiting += ((onward, steps + 1) for onward in part.uses)
    return gathered


def _stub(part: Definition) -> dict[str, Any]:
    kind = part.schema.get("type")
    return {"description": f"{part.name}: any value."} | ({"type": kind} if kind else {})


@dataclass(frozen=True)
class _Gathered:
    kept: dict[str, Definition]
    cut: dict[str, dict[str, Any]]
    uses: Counter[str]
    inline: bool = True

    def whole(self, root: dict[str, Any]) -> dict[str, Any]:
        schema = self._written_out(root)
        return schema if levels(schema) <= MAX_LEVELS else replace(self, inline=False)._written_out(root)

    def _written_out(self, root: dict[str, Any]) -> dict[str, Any]:
        schema = self._expand(root)
        name = str(schema.get("$ref", "")).removeprefix(PREFIX)
        if name in self.kept:  # clients look for properties at the top
            schema = _beside(self._expand(self.kept[name].schema), schema)
        shared = {
            name: self._expand(self.kept[name].schema)
            for name in sorted(self.kept)
            if not self._is_inline(name)
        }
        return schema | ({"$defs": shared} if shared else {})

    def _is_inline(self, name: str) -> bool:
        """What is used once cannot be part of a circle that the root reaches, so this ends."""
        if not self.inline:
            return False
        times, part = self.uses[name], self.kept[name]
        return times == 1 or (not part.uses and part.size <= INLINE_BYTES and times <= INLINE_TIMES)

    def _expand(self, schema: dict[str, Any]) -> dict[str, Any]:
        result = _mapped(schema, self._expand)
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return result
        name = reference.removeprefix(PREFIX)
        if name in self.cut:
            return _beside(self.cut[name], result)
        if self._is_inline(name):
            return _beside(self._expand(self.kept[name].schema), result)
        return result


def _beside(target: dict[str, Any], referring: dict[str, Any]) -> dict[str, Any]:
    """The target in the place of a `$ref`, with what stood beside the `$ref`."""
    siblings = {keyword: value for keyword, value in referring.items() if keyword != "$ref"}
    if ANNOTATIONS.issuperset(siblings):
        return target | siblings
    return {**siblings, "allOf": [target, *siblings.get("allOf", ())]}


def _mapped(schema: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A copy with `change` applied to each direct subschema; values that only look like schemas stay."""
    result = dict(schema)
    for keyword in schema.keys() & _HOLDERS:
        held = schema[keyword]
        if keyword in SCHEMA_LISTS:
            result[keyword] = [change(part) for part in held]
        elif keyword in SCHEMAS:
            result[keyword] = change(held) if isinstance(held, dict) else held
        else:
            result[keyword] = {name: change(part) for name, part in held.items()}
    return result


def _reduced(schema: dict[str, Any], limit: int) -> dict[str, Any]:
    for change in (_without_deep_texts, _with_short_texts, flattened):
        schema = change(schema)
        if size(schema) <= limit:
            break
    if (bytes_left := size(schema)) > MAX_BYTES:
        raise LeaveOut(
            f"Its arguments take a schema of {bytes_left // 1024:,} KB even when shortened, which no client "
            "can use. Write this tool by hand with the arguments you need."
        )
    return schema


def flattened(schema: dict[str, Any]) -> dict[str, Any]:
    """The first levels alone, for a schema that is too much as a whole."""
    return _shallow({keyword: value for keyword, value in schema.items() if keyword != "$defs"}, KEEP_LEVELS)


def _with_short_texts(schema: dict[str, Any]) -> dict[str, Any]:
    result = _mapped(schema, _with_short_texts)
    result.pop("examples", None)
    if "description" in result:
        result["description"] = shorten(result["description"], SHORT_TEXT)
    return result


def _without_deep_texts(schema: dict[str, Any]) -> dict[str, Any]:
    return _without_texts(schema, KEEP_TEXTS_TO)


def _without_texts(schema: dict[str, Any], levels: int) -> dict[str, Any]:
    kept = (
        schema
        if levels > 0
        else {k: v for k, v in schema.items() if k not in ("description", "title", "examples")}
    )
    return _mapped(kept, lambda part: _without_texts(part, levels - 1))


def _shallow(schema: dict[str, Any], levels: int) -> dict[str, Any]:
    """Without anything deeper than `levels`, and without references, whose targets are gone."""
    if levels == 0 or "$ref" in schema:
        kind = schema.get("type")
        return {"description": ANYTHING} | ({"type": kind} if kind else {})
    return _mapped(schema, lambda part: _shallow(part, levels - 1))
