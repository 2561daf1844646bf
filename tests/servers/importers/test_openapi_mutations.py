"""Documents damaged at random import or are refused; nothing else ever happens."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from mooring.errors import InvalidInput
from servers import manifests
from servers.importers.documents import parse
from servers.importers.openapi import import_openapi

DOCUMENTS = Path(__file__).parents[2] / "documents"
ODDITIES: list[Any] = [
    None, True, 0, -1, 3.5, "", [], {}, "x", "{", "{a}", "{secret:other}", [None], {"$ref": "#"}, {"$ref": "#/paths"},
    {"$ref": "./other.yaml"}, {"$ref": 5}, {"$ref": "#/components/schemas/Ship"}, ["a", "a"], "a\nb", "é" * 300, 10**30,
    {"allOf": [{"$ref": "#/components/schemas/Ship"}]}, "(?=x)", {"in": "query", "name": "q"}, "http://[",
]  # fmt: skip
ODD_KEYS = [
    "$ref",
    "type",
    "properties",
    "allOf",
    "",
    "{x}",
    "get",
    "/a/{b}",
    "nullable",
    "required",
    "items",
    "a" * 300,
]


def places(value: Any) -> list[tuple[Any, Any]]:
    found, waiting = [], [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict | list):
            keys = list(node) if isinstance(node, dict) else range(len(node))
            found += [(node, key) for key in keys]
            waiting += [node[key] for key in keys]
    return found


def damage(document: Any, chance: random.Random) -> None:
    node, key = chance.choice(places(document))
    other, other_key = chance.choice(places(document))
    match chance.randrange(4):
        case 0 | 1:
            node[key] = copy.deepcopy(chance.choice(ODDITIES))
        case 2:
            node[key] = copy.deepcopy(other[other_key])
        case 3 if isinstance(node, dict):
            node[chance.choice(ODD_KEYS)] = node.pop(key)


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_document_imports_or_is_refused(seed: int) -> None:
    chance = random.Random(seed)
    name = chance.choice(["harbour.yaml", "library.json", "damaged.yaml"])
    document = json.loads(json.dumps(parse((DOCUMENTS / name).read_bytes())))
    for _ in range(chance.randint(1, 12)):
        damage(document, chance)
    try:
        imported = import_openapi(document)
    except InvalidInput:
        return
    manifests.check(imported.manifest)
