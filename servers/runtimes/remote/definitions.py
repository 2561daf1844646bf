"""What is pinned of an upstream's definition, and how two of them differ.

A definition is a tool, resource, resource template or prompt as its upstream lists it. Pinned is what a model reads
or what decides how it is called. Left out is what changes by itself and moves nobody: icons (often signed addresses),
`_meta` but for the interface it names, a resource's size and date, and members that a later revision may add.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Read by a model: name, title, description, the schemas, a prompt's arguments. Acted on by its host: annotations
# (is it safe to call without asking?), mimeType and the addresses.
PINNED = (
    "name",
    "title",
    "description",
    "inputSchema",
    "outputSchema",
    "annotations",
    "arguments",
    "uri",
    "uriTemplate",
    "mimeType",
    "ui",
)
# When a resource last changed is no part of what it is.
_PASSING = frozenset({"lastModified"})
# From here on doubles are written with an exponent, as in JavaScript; one way for a number that has two.
_EXPONENT_FROM = 10**21


@dataclass(frozen=True, slots=True)
class Difference:
    """A pinned member that is not what it was. None stands for one that is not there."""

    member: str
    old: Any
    new: Any


def digest_of(definition: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of the pinned members as canonical JSON: sorted keys, no spaces, UTF-8.

    Two definitions that mean the same have one digest: absent, null and empty members are alike, so are 1 and 1.0,
    and the order of members says nothing. The order of lists does.
    """
    text = json.dumps(
        _canonical(pinned(definition)), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Difference, ...]:
    """The pinned members that differ, in the order of PINNED. Empty exactly when the digests are equal."""
    before, after = pinned(old), pinned(new)
    return tuple(
        Difference(member, before.get(member), after.get(member))
        for member in PINNED
        if not _is_same(before.get(member), after.get(member))
    )


def pinned(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The members that are pinned, as they are."""
    members = {**definition, "ui": _interface(definition.get("_meta"))}
    if isinstance(definition.get("annotations"), Mapping):
        members["annotations"] = {
            name: value for name, value in definition["annotations"].items() if name not in _PASSING
        }
    return {member: members[member] for member in PINNED if members.get(member) not in (None, "", {}, [])}


def _interface(meta: Any) -> Any:
    """The user interface that a tool brings along (MCP Apps): what a person sees in a model's stead."""
    if not isinstance(meta, Mapping):
        return None
    return meta.get("ui") or meta.get("ui/resourceUri")


def _is_same(one: Any, other: Any) -> bool:
    return bool(json.dumps(_canonical(one), sort_keys=True) == json.dumps(_canonical(other), sort_keys=True))


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _canonical(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(part) for part in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXPONENT_FROM:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _EXPONENT_FROM:
        return float(value) if abs(value) < 10**300 else str(value)
    return value
