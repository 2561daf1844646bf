"""The arguments of one tool: gathered from parameters and body, each under a name of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from servers.importers.openapi.conversion import Conversion
from servers.importers.openapi.naming import MAX_NAME, Names, cleaned
from servers.importers.openapi.reading import sentence, text


@dataclass
class Arguments:
    conversion: Conversion
    properties: dict[str, dict[str, Any]] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)
    _names: Names = field(default_factory=Names)

    @property
    def uses(self) -> Counter[str]:
        return self.conversion.uses

    def add(
        self, wire_name: str, place: str, schema: object, *, required: bool, notes: str = "", base: str = "#"
    ) -> str:
        """Returns the argument's name. `base` is the pointer of the schema that this one stands in.

        The first of a name has it bare, later ones end in `_query`, `_body` … Raises `LeaveOut`.
        """
        converted = replace(self.conversion, base=base).property(wire_name, schema)
        name = self._names.claim(_candidates(wire_name, place))
        sent_as = "" if name in (wire_name, f"{wire_name}_{place}") else f"Sent as `{wire_name}`."
        self.properties[name] = _described(converted, notes, sent_as)
        if required:
            self.required.append(name)
        return name

    def schema(self) -> dict[str, Any]:
        required = {"required": self.required} if self.required else {}
        return {"type": "object", "properties": self.properties, **required, "additionalProperties": False}


def _candidates(wire_name: str, place: str) -> Iterator[str]:
    plain = cleaned(wire_name) or f"{place}_argument"
    yield plain
    ended = f"{plain[: MAX_NAME - len(place) - 1]}_{place}"
    yield ended
    for number in count(2):
        yield f"{ended[: MAX_NAME - 6]}_{number}"


def _described(schema: dict[str, Any], *notes: str) -> dict[str, Any]:
    more = [note for note in notes if note]
    if not more:
        return schema
    told = text(schema.get("description"))
    return {**schema, "description": " ".join([sentence(told), *more] if told else more)}
