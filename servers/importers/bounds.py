"""How large a handed-in document may be once read. Far above what real API descriptions need."""

from __future__ import annotations

from typing import NoReturn

from mooring.errors import InvalidInput
from servers import manifests

MAX_BYTES = 5 * 2**20
MAX_NODES = 400_000  # a minified 5 MB description has about 250,000 values
# A manifest in JSON may be as large as any that a server has, so that what is exported comes in again.
MANIFEST_BYTES = manifests.MAX_BYTES
MANIFEST_NODES = MAX_NODES * MANIFEST_BYTES // MAX_BYTES
MAX_DEPTH = 100  # real ones stay under 50
MAX_ALIASES = 1_000


class Bounds:
    """Counts the values of one document while, or after, it is read."""

    def __init__(self, most: int = MAX_NODES) -> None:
        self.most, self.nodes = most, 0

    def add(self, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > self.most:
            raise InvalidInput(
                f"The document holds more than {self.most:,} values. Remove the parts you do not need and try again.",
                code="document_too_large",
            )

    def check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            self.refuse_depth()

    @staticmethod
    def refuse_depth() -> NoReturn:
        raise InvalidInput(
            f"The document is nested more than {MAX_DEPTH} levels deep.", code="document_too_deep"
        )

    def check(self, value: object) -> None:
        """Walk a finished value, without recursion."""
        level, depth = [value], 0
        while level:
            self.add(len(level))
            self.check_depth(depth)
            depth += 1
            level = [child for node in level for child in _children(node)]


def _children(node: object) -> list[object]:
    if isinstance(node, dict):
        for key in node:
            check_text(key)
        return list(node.values())
    if isinstance(node, list):
        return node
    if isinstance(node, str):
        check_text(node)
    return []


def check_text(text: str) -> None:
    """Refuse what neither a database nor UTF-8 can hold."""
    if "\0" in text:
        raise InvalidInput("The document holds a NUL character. Remove it and try again.", code="bad_text")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(
            "The document holds half a character (a lone surrogate). Remove it and try again.",
            code="bad_text",
        ) from None
