"""How many steps checking one place of a value may take, counted before a schema is ever used.

References multiply: twenty definitions that each name the next one twice make a million steps. The count follows
every keyword that holds schemas, and references. A reference back to a schema it stands in is left out and
reported: the library remembers its results there when it checks, but not when it explains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

from mooring.errors import InvalidInput

Schema = dict[str, Any]
Place = str | int  # a member's name after a dot, an item's index, or one of these
HERE, ANY_MEMBER, ANY_ITEM, NAMES = "", "*", "[]", "names"

_HOLDS_ONE: dict[str, Place] = {
    **dict.fromkeys(("not", "if", "then", "else"), HERE),
    **dict.fromkeys(("additionalProperties", "unevaluatedProperties"), ANY_MEMBER),
    **dict.fromkeys(("items", "additionalItems", "unevaluatedItems", "contains"), ANY_ITEM),
    "propertyNames": NAMES,
}
_HOLDS_LIST = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_HOLDS_MAP = ("properties", "patternProperties", "dependentSchemas", "dependencies")
_DEFINITIONS = ("$defs", "definitions")
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
# Through these more than one schema may look at one place, even where nothing refers to anything.
MULTIPLYING = frozenset([*_HOLDS_ONE, *_HOLDS_LIST, *_HOLDS_MAP]) - {"properties"}
_ANCHORS = ("$anchor", "$dynamicAnchor")
_MOST_SUMS = 1_000_000


class Costs(NamedTuple):
    """`steps` one place may take; `loops`: identities of the objects whose reference leads back to itself."""

    steps: int
    loops: frozenset[int]


class _Edge(NamedTuple):
    place: Place
    schema: Schema


def costs_of(schema: Schema) -> Costs:
    """Raises `InvalidInput` for a reference that leads out of the schema, and for what cannot be counted."""
    graph = _Graph(schema)
    known: dict[int, dict[Place, int]] = {}
    sums = 0
    for node in graph.order:
        total: dict[Place, int] = {HERE: 1}
        for place, child in graph.edges[id(node)]:
            below = known[id(child)]
            for where, steps in below.items() if place == HERE else ((place, _worst(below)),):
                total[where] = total.get(where, 0) + steps
                sums += 1
        if sums > _MOST_SUMS:
            raise InvalidInput("The schema is too intricate. Split it, or repeat its parts less often.")
        known[id(node)] = total
    return Costs(_worst(known[id(schema)]), frozenset(graph.loops))


def _worst(total: dict[Place, int]) -> int:
    """Steps of the dearest place: what holds for any member holds for each named one too."""
    member = max((n for place, n in total.items() if isinstance(place, str) and place[:1] == "."), default=0)
    item = max((n for place, n in total.items() if isinstance(place, int)), default=0)
    return max(
        total[HERE], member + total.get(ANY_MEMBER, 0), item + total.get(ANY_ITEM, 0), total.get(NAMES, 0)
    )


@dataclass(slots=True)
class _Graph:
    """Which schema leads to which: `order` puts every schema after all it leads to, loops left out."""

    root: Schema
    order: list[Schema] = field(default_factory=list)
    edges: dict[int, list[_Edge]] = field(default_factory=dict)
    loops: set[int] = field(default_factory=set)
    _base: dict[int, str] = field(default_factory=dict)
    _documents: dict[str, Schema] = field(default_factory=dict)
    _anchors: dict[tuple[str, str], Schema] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._documents[""] = self.root
        self._index()
        self._walk()

    def _index(self) -> None:
        """Learn the base address of every schema, and the names it goes by."""
        waiting = [("", self.root)]
        while waiting:
            base, schema = waiting.pop()
            if isinstance(name := schema.get("$id"), str):
                base = urldefrag(urljoin(base, name)).url
                self._documents[base] = schema
            self._base[id(schema)] = base
            for keyword in _ANCHORS:
                if isinstance(anchor := schema.get(keyword), str):
                    self._anchors[base, anchor] = schema
            waiting.extend((base, child) for _, child in _held(schema))
            waiting.extend((base, child) for child in _definitions(schema))

    def _walk(self) -> None:
        """Depth first with a stack of our own, since chains of references may be longer than Python's."""
        is_open = {id(self.root)}
        stack = [(self.root, self._leads_to(self.root))]
        while stack:
            schema, ahead = stack[-1]
            edge = next(ahead, None)
            if edge is None:
                stack.pop()
                is_open.discard(id(schema))
                self.order.append(schema)
            elif id(edge.schema) in is_open:
                self.loops.add(id(schema))
            else:
                self.edges[id(schema)].append(edge)
                if id(edge.schema) not in self.edges:
                    is_open.add(id(edge.schema))
                    stack.append((edge.schema, self._leads_to(edge.schema)))

    def _leads_to(self, schema: Schema) -> Iterator[_Edge]:
        self.edges[id(schema)] = []
        return iter([*_held(schema), *(_Edge(HERE, target) for target in self._targets(schema))])

    def _targets(self, schema: Schema) -> Iterator[Schema]:
        base = self._base.get(id(schema), "")
        for keyword in REFERENCES:
            reference = schema.get(keyword)
            if isinstance(reference, str):
                target = self._resolved(base, reference)
                if isinstance(target, dict):
                    yield target
                if keyword == "$dynamicRef":
                    yield from self._dynamic(reference, besides=target)

    def _dynamic(self, reference: str, besides: Any) -> Iterator[Schema]:
        name = urldefrag(reference).fragment
        for (_, anchor), schema in self._anchors.items():
            if anchor == name and schema is not besides:
                yield schema

    def _resolved(self, base: str, reference: str) -> Any:
        address, fragment = urldefrag(base + reference if reference[:1] == "#" else urljoin(base, reference))
        found: Any = self._documents.get(address)
        if found is not None and fragment[:1] == "/":
            found = _at(found, unquote(fragment))
        elif fragment:
            found = self._anchors.get((address, fragment))
        if not isinstance(found, dict | bool):
            raise InvalidInput(
                f"The reference {reference[:80]!r} leads nowhere in the schema. Put its target under $defs."
            )
        return found


def _held(schema: Schema) -> Iterator[_Edge]:
    """Schemas inside this one, and which place of the value they look at."""
    for keyword, place in _HOLDS_ONE.items():
        if isinstance(child := schema.get(keyword), dict):
            yield _Edge(place, child)
    for keyword in _HOLDS_LIST:
        if isinstance(children := schema.get(keyword), list):
            yield from (
                _Edge(_place_of(keyword, i), one) for i, one in enumerate(children) if _is_object(one)
            )
    for keyword in _HOLDS_MAP:
        if isinstance(members := schema.get(keyword), dict):
            yield from (_Edge(_place_of(keyword, n), one) for n, one in members.items() if _is_object(one))


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _place_of(keyword: str, key: Place) -> Place:
    if keyword == "properties":
        return f".{key}"
    if keyword in ("prefixItems", "items"):
        return key
    return ANY_MEMBER if keyword == "patternProperties" else HERE


def _definitions(schema: Schema) -> Iterator[Schema]:
    for keyword in _DEFINITIONS:
        if isinstance(members := schema.get(keyword), dict):
            yield from (child for child in members.values() if isinstance(child, dict))


def _at(document: Any, pointer: str) -> Any:
    """What a JSON pointer names, or None."""
    for part in pointer[1:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(key)
        elif isinstance(document, list) and key.isascii() and key.isdigit() and int(key) < len(document):
            document = document[int(key)]
        else:
            return None
    return document
