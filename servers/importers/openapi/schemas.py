"""All schemas of a document in one direction, each converted once however many operations share it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from servers.importers.openapi.closures import Definition, Whole, close, complete, size
from servers.importers.openapi.conversion import Conversion, Direction
from servers.importers.openapi.findings import LeaveOut
from servers.importers.openapi.naming import Names, cleaned, numbered
from servers.importers.openapi.references import References


class Schemas:
    def __init__(self, references: References, direction: Direction, *, siblings_count: bool) -> None:
        self._references = references
        self._direction: Direction = direction
        self._siblings_count = siblings_count
        self._names = Names()
        self._name_of: dict[str, str] = {}
        self._pointer_of: dict[str, str] = {}
        self._definitions: dict[str, Definition | LeaveOut] = {}

    def conversion(self, base: str = "#") -> Conversion:
        """A fresh conversion; its `uses` tell `whole` what to bring along."""
        return Conversion(self._references, self._direction, self._siblings_count, self._name, base)

    def whole(self, root: dict[str, Any], uses: Counter[str], *, limit: int) -> Whole:
        """Raises `LeaveOut`."""
        return close(root, uses, self._definition, limit=limit)

    def complete(self, root: dict[str, Any], uses: Counter[str], *, limit: int) -> dict[str, Any] | None:
        """None when it is larger. Raises `LeaveOut`."""
        return complete(root, uses, self._definition, limit=limit)

    def _name(self, pointer: str) -> str:
        if pointer not in self._name_of:
            wanted = cleaned(pointer.rpartition("/")[2].replace("~1", "_").replace("~0", "_")) or "schema"
            name = self._names.claim(numbered(wanted))
            self._name_of[pointer], self._pointer_of[name] = name, pointer
        return self._name_of[pointer]

    def _definition(self, name: str) -> Definition:
        kept = self._definitions.get(name)
        if kept is None:
            kept = self._definitions[name] = self._converted(name)
        if isinstance(kept, LeaveOut):
            raise kept.with_traceback(None)  # kept ones would gather tracebacks
        return kept

    def _converted(self, name: str) -> Definition | LeaveOut:
        pointer = self._pointer_of[name]
        conversion = self.conversion(pointer)
        try:
            schema = conversion.convert(self._references.find(pointer).value)
        except LeaveOut as error:
            return error
        return Definition(name, schema, conversion.uses, size(schema))
