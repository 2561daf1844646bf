"""Following `$ref` inside one document, and never out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from servers.importers.openapi.findings import LeaveOut, Remote
from servers.importers.openapi.reading import mapping

MAX_HOPS = 50  # references that lead to references


@dataclass(frozen=True)
class Found:
    """A part of the document; `pointer` is its one normal spelling, `#/a/b` with `~0`, `~1` escapes."""

    value: Any
    pointer: str


class References:
    def __init__(self, document: dict[str, Any], source_url: str | None = None) -> None:
        self._document = document
        self._source = urldefrag(source_url).url if source_url else ""
        self._kept: dict[str, Found] = {}
        self._labels: dict[str, Found] | None = None

    def find(self, reference: str, base: str = "#") -> Found:
        """What a reference names. `base` is the pointer of the schema it stands in.

        Raises `Remote`, or `LeaveOut` when the document has no such part.
        """
        found = self._kept.get(reference) or self._search(reference)
        if found is not None:
            self._kept[reference] = found
            return found
        fragment = reference.partition("#")[2]
        # Hand-written 3.1 documents say `#/$defs/x` and mean the schema they are in.
        return (self._walk(base, fragment) if base != "#" else None) or _refuse_missing(reference)

    def follow(self, node: object) -> Any:
        """The thing itself, where a reference may stand in its place. Raises like `find`."""
        for _ in range(MAX_HOPS):
            reference = mapping(node).get("$ref")
            if not isinstance(reference, str):
                return node
            node = self.find(reference).value
        raise LeaveOut("It refers to itself and never to a description. Correct the document's `$ref`.")

    def _search(self, reference: str) -> Found | None:
        address, _, fragment = reference.partition("#")
        if address and not self._is_own(address):
            found = self._labelled(reference)
            if found is None:
                raise Remote(reference)
            return found
        if fragment and not fragment.startswith("/"):
            return self._labelled(f"#{fragment}")
        return self._walk("#", fragment)

    def _is_own(self, address: str) -> bool:
        """Some documents refer to themselves by their own file name."""
        return bool(self._source) and urljoin(self._source, address) == self._source

    def _walk(self, base: str, fragment: str) -> Found | None:
        node: Any = self._document
        steps = [*base[1:].split("/")[1:], *fragment.split("/")[1:]]
        names = []
        for step in steps:
            name, node = _step(node, step)
            if name is None:
                return None
            names.append(_escape(name))
        return Found(node, "/".join(["#", *names]))

    def _labelled(self, label: str) -> Found | None:
        """A schema of 3.1 that carries `$id` or `$anchor`."""
        if self._labels is None:
            self._labels = dict(_labels(self._document))
        return self._labels.get(label)


_MISSING = object()


def _step(node: object, step: str) -> tuple[str | None, Any]:
    """One step of a JSON pointer; the name it took, or None. Names holding `%` are tried as written too."""
    for spelling in (unquote(step), step):
        name = spelling.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and name.isdecimal() and name.isascii() and int(name[:9]) < len(node):
            return name, node[int(name[:9])]
        value = mapping(node).get(name, _MISSING)
        if value is not _MISSING:
            return name, value
    return None, None


def _labels(document: dict[str, Any]) -> Iterator[tuple[str, Found]]:
    waiting = [Found(mapping(document.get("components")).get("schemas"), "#/components/schemas")]
    while waiting:
        found = waiting.pop()
        yield from _own_labels(found)
        if isinstance(found.value, dict | list):
            parts = found.value.items() if isinstance(found.value, dict) else enumerate(found.value)
            waiting += [Found(part, f"{found.pointer}/{_escape(str(name))}") for name, part in parts]


def _own_labels(found: Found) -> Iterator[tuple[str, Found]]:
    node = mapping(found.value)
    if isinstance(node.get("$id"), str):
        yield node["$id"], found
    for keyword in ("$anchor", "$dynamicAnchor"):
        if isinstance(node.get(keyword), str):
            yield f"#{node[keyword]}", found


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _refuse_missing(reference: str) -> Found:
    raise LeaveOut(
        f"It refers to `{reference[:200]}`, which the document does not have. Correct that `$ref`."
    )
