"""YAML under the core schema of YAML 1.2, read event by event with libyaml.

PyYAML's own loaders follow YAML 1.1 (`NO` is false, dates are objects) and recurse in C. Building the values from
the parser's events keeps text as text, needs no recursion, and lets a bomb be refused as soon as it shows.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from mooring.errors import InvalidInput
from servers.importers.bounds import MAX_ALIASES, Bounds, check_text

_CORE = "tag:yaml.org,2002:"
_CONSTANTS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TEXT_TAGS = {"!", f"{_CORE}str", f"{_CORE}binary", f"{_CORE}timestamp"}
_COLLECTIONS = {f"{_CORE}map", f"{_CORE}seq", "!"}
_MERGE = "<<"


def load(text: str) -> Any:
    """The one document in `text`. Raises `InvalidInput` (code `yaml_syntax` when it is not YAML at all)."""
    loader = yaml.CSafeLoader(text)
    try:
        return _Reading(loader).run()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidInput(f"The YAML is broken{where}: {error.problem}.", code="yaml_syntax") from None
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"The YAML cannot be read: {reason}.", code="yaml_syntax") from None
    finally:
        loader.dispose()


def scalar(text: str) -> object:
    """What an unquoted scalar means. Numbers that JSON cannot carry (`.inf`, `1e999`) stay text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if not (text[0].isdigit() or text[0] in "+-."):
        return text
    if _WHOLE.fullmatch(text):
        number = whole_number(text)
        return text if number is None else number
    if _BASED.fullmatch(text):
        return _within_64_bits(int(text, 0))
    if _DECIMAL.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def whole_number(text: str) -> int | float | None:
    """An integer, or a float beyond 64 bits, as other JSON readers have it; None when even that is too small."""
    if len(text) < 400:  # more digits than any float has
        return _within_64_bits(int(text))
    return None


def _within_64_bits(number: int) -> int | float | None:
    if -(2**63) <= number < 2**64:
        return number
    try:
        return float(number)
    except OverflowError:
        return None


@dataclass(slots=True)
class _Node:
    """A finished value with what it costs to repeat it."""

    value: Any
    nodes: int = 1
    height: int = 0


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come yet."""

    value: Any
    anchor: str | None
    nodes_before: int
    height: int = 0
    key: str | None = None
    merged: list[dict[str, Any]] = field(default_factory=list)


class _Reading:
    def __init__(self, loader: yaml.CSafeLoader) -> None:
        self._loader = loader
        self._bounds = Bounds()
        self._aliases = 0
        self._anchors: dict[str, _Node] = {}
        self._open: list[_Open] = []
        self._root: _Node | None = None

    def run(self) -> Any:
        while (event := self._loader.get_event()) is not None and not isinstance(event, yaml.StreamEndEvent):
            self._take(event)
        return self._root.value if self._root else None

    def _take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._start(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end(event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent) and self._root:
            self._refuse(
                event, "a second document begins here. Import one document at a time", "several_documents"
            )

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        check_text(event.value)
        parent = self._open[-1] if self._open else None
        if parent is not None and isinstance(parent.value, dict) and parent.key is None:
            # Keys are text in JSON: `200:` is the key "200".
            self._remember(event.anchor, _Node(event.value))
            is_merge = event.value == _MERGE and event.implicit[0]
            self._set_key(event, parent, _MERGE + "\0" if is_merge else event.value)
            return
        self._bounds.add(1)
        self._place(event, _Node(self._value_of(event)), event.anchor)

    def _value_of(self, event: yaml.ScalarEvent) -> object:
        if event.tag is None:
            return scalar(event.value) if event.implicit[0] else event.value
        if event.tag in _TEXT_TAGS:
            return event.value
        if event.tag.startswith(_CORE):
            return scalar(event.value)
        self._refuse_tag(event)

    def _set_key(self, event: yaml.Event, parent: _Open, key: str) -> None:
        if key in parent.value:
            self._refuse(
                event, f"the key “{key[:100]}” occurs twice in one mapping. Remove one", "duplicate_key"
            )
        parent.key = key

    def _start(self, event: yaml.CollectionStartEvent) -> None:
        if event.tag is not None and event.tag not in _COLLECTIONS:
            self._refuse_tag(event)
        parent = self._open[-1] if self._open else None
        if parent is not None and isinstance(parent.value, dict) and parent.key is None:
            self._refuse(event, "a key of a mapping must be text", "bad_key")
        before = self._bounds.nodes
        self._bounds.add(1)
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._open.append(_Open(value, event.anchor, before))
        self._bounds.check_depth(len(self._open))

    def _end(self, event: yaml.Event) -> None:
        done = self._open.pop()
        for source in done.merged:
            for key, value in source.items():
                done.value.setdefault(key, value)
        nodes = self._bounds.nodes - done.nodes_before
        self._place(event, _Node(done.value, nodes, done.height + 1), done.anchor)

    def _alias(self, event: yaml.AliasEvent) -> None:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            self._refuse(event, f"the document uses more than {MAX_ALIASES:,} aliases", "too_many_aliases")
        name = str(event.anchor)
        node = self._anchors.get(name)
        if node is None:
            self._refuse(
                event, f"*{name[:100]} names nothing that is complete before this line", "unknown_alias"
            )
        self._bounds.add(node.nodes)
        parent = self._open[-1] if self._open else None
        if parent is not None and isinstance(parent.value, dict) and parent.key is None:
            if not isinstance(node.value, str):
                self._refuse(event, "a key of a mapping must be text", "bad_key")
            self._set_key(event, parent, node.value)
            return
        self._place(event, node, None)

    def _place(self, event: yaml.Event, node: _Node, anchor: str | None) -> None:
        self._remember(anchor, node)
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        parent.height = max(parent.height, node.height)
        self._bounds.check_depth(len(self._open) + node.height)
        if isinstance(parent.value, list):
            parent.value.append(node.value)
        elif parent.key == _MERGE + "\0":
            self._merge(event, parent, node.value)
            parent.key = None
        elif parent.key is not None:
            parent.value[parent.key] = node.value
            parent.key = None

    def _remember(self, anchor: str | None, node: _Node) -> None:
        if anchor is not None:
            self._anchors[anchor] = node

    def _merge(self, event: yaml.Event, parent: _Open, value: object) -> None:
        """`<<`: the mapping's own keys win over merged ones, earlier sources over later ones."""
        sources = value if isinstance(value, list) else [value]
        for source in sources:
            if not isinstance(source, dict):
                self._refuse(event, "`<<` can only merge mappings", "bad_merge")
            parent.merged.append(source)

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> NoReturn:
        tag = str(event.tag).removeprefix(_CORE)[:100]
        self._refuse(event, f"the tag {tag} is not plain YAML. Write the value itself", "unknown_tag")

    def _refuse(self, event: yaml.Event, why: str, code: str) -> NoReturn:
        line = event.start_mark.line + 1 if event.start_mark else 1
        raise InvalidInput(f"The YAML cannot be used, line {line}: {why}.", code=code)
