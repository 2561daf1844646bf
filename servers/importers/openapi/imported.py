"""What an import gives: a whole manifest, the operations to choose from, and what is not in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from mooring.errors import InvalidInput
from servers import manifests
from servers.importers.openapi.findings import LeftOut

_VARIABLE = re.compile(r"\{([A-Za-z0-9_]+)\}")
_SECRET = re.compile(r"\{secret:([A-Za-z0-9_]+)\}")


@dataclass(frozen=True)
class Operation:
    """One tool to choose: `key` is `METHOD /path`, `name` the tool's."""

    key: str
    method: str
    path: str
    name: str
    summary: str
    tag: str


@dataclass(frozen=True)
class Imported:
    """`operations` are in the document's order, as the manifest's tools are."""

    title: str
    description: str
    manifest: dict[str, Any]
    operations: list[Operation]
    left_out: list[LeftOut]

    def usable(self) -> Self:
        """Without the tools that could not be saved: one that is too large must not cost all the others.

        Raises `InvalidInput` when the rest is no manifest either.
        """
        try:
            return replace(self, manifest=manifests.check(self.manifest))
        except InvalidInput:
            return self._without_refused()

    def _without_refused(self) -> Self:
        kept, refused = [], []
        for tool in self.manifest.get("tools", []):
            try:
                kept.append(manifests.check_part("tools", tool, within=self.manifest))
            except InvalidInput as error:
                refused.append(LeftOut(f"the tool {str(tool.get('name'))[:128]}", error.message))
        names = {tool["name"] for tool in kept}
        return replace(
            self,
            manifest=manifests.check(self.manifest | {"tools": kept}),
            operations=[operation for operation in self.operations if operation.name in names],
            left_out=[*self.left_out, *refused],
        )

    def chosen(self, keys: Iterable[str]) -> dict[str, Any]:
        """The manifest with only these tools, and the secrets and variables that they need.

        Raises `InvalidInput` when nothing is chosen or a key is none of the operations'.
        """
        wanted = set(keys)
        names = {operation.name for operation in self.operations if operation.key in wanted}
        unknown = wanted - {operation.key for operation in self.operations}
        if unknown:
            raise InvalidInput(
                f"The document has no operation {min(unknown)[:200]}. Choose from the list.",
                code="unknown_operation",
                fields={"chosen": ["Choose from the operations of the document."]},
                unknown=sorted(unknown)[:20],
            )
        if not names:
            raise InvalidInput(
                "Choose at least one operation.",
                code="nothing_chosen",
                fields={"chosen": ["Choose from the operations of the document."]},
            )
        tools = [tool for tool in self.manifest.get("tools", []) if tool["name"] in names]
        return needing_only(self.manifest, tools)

    def as_result(self) -> dict[str, Any]:
        """Plain JSON, for keeping; `from_result` reads it again."""
        return asdict(self)

    @classmethod
    def from_result(cls, result: dict[str, Any]) -> Self:
        return cls(
            result.get("title", ""),  # imports kept by the first releases have neither
            result.get("description", ""),
            result["manifest"],
            [Operation(**operation) for operation in result["operations"]],
            [LeftOut(**finding) for finding in result["left_out"]],
        )


def needing_only(manifest: dict[str, Any], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """The manifest with these tools; of its secrets and variables only those they name."""
    templates = [template for tool in tools for template in _templates(tool)]
    needed = {
        "variables": {name for template in templates for name in _VARIABLE.findall(template)},
        "secrets": {name for template in templates for name in _SECRET.findall(template)},
    }
    result = {key: value for key, value in manifest.items() if key not in (*needed, "tools")}
    for section, names in needed.items():
        kept = {name: value for name, value in manifest.get(section, {}).items() if name in names}
        if kept:
            result[section] = kept
    return result | {"tools": tools}


def _templates(tool: dict[str, Any]) -> Iterator[str]:
    request = tool.get("http", {})
    yield request.get("url", "")
    yield from (constant["value"] for constant in request.get("constants", ()))
    yield from request.get("basic_auth", {}).values()
