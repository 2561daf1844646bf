"""Whole documents: ours, very large ones, and any that `MOORING_EXTRA_OPENAPI` names a folder of."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from mooring.errors import InvalidInput
from servers import manifests
from servers.importers.documents import parse
from servers.importers.openapi import Imported, import_openapi
from servers.schemas import compile_schema

DOCUMENTS = Path(__file__).parents[2] / "documents"
EXTRA = os.environ.get("MOORING_EXTRA_OPENAPI", "")
FILES = [
    path
    for folder in (DOCUMENTS, Path(EXTRA) if EXTRA else None)
    if folder is not None
    for path in sorted(folder.iterdir())
    if path.suffix in (".json", ".yaml", ".yml")
]


def check_sound(imported: Imported) -> None:
    """Everything that holds of every import."""
    assert imported.operations
    assert [operation.name for operation in imported.operations] == [
        tool["name"] for tool in imported.manifest["tools"]
    ]
    folded = {operation.name.casefold() for operation in imported.operations}
    assert (
        len(folded) == len(imported.operations) == len({operation.key for operation in imported.operations})
    )
    for tool in imported.manifest["tools"]:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", tool["name"])
        assert tool["description"]
        for name in ("input_schema", "output_schema"):
            if name in tool:
                assert tool[name]["type"] == "object"
                compile_schema(tool[name])
                assert len(json.dumps(tool[name])) < 128 * 1024
    named = {secret for tool in imported.manifest["tools"] for secret in manifests.secrets_named(tool)}
    assert named == set(imported.manifest.get("secrets", {}))
    assert all(one.what and one.why for one in imported.left_out)
    assert manifests.check(imported.manifest)["tools"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_openapi_3_document_imports_and_any_other_is_refused(path: Path) -> None:
    document = parse(path.read_bytes())
    if "swagger" in document:
        with pytest.raises(InvalidInput, match="Convert it to OpenAPI 3"):
            import_openapi(document)
        return
    imported = import_openapi(document)
    check_sound(imported)
    again = import_openapi(parse(path.read_bytes()))
    assert again == imported
    kept = Imported.from_result(json.loads(json.dumps(imported.as_result())))
    assert kept == imported
    assert kept.chosen([kept.operations[-1].key])["tools"] == imported.manifest["tools"][-1:]


def large_document(operations: int, schemas: int) -> dict[str, Any]:
    """A web of schemas that all refer to each other, used by every operation."""

    def schema(index: int) -> dict[str, Any]:
        links = {
            f"link{j}": {"$ref": f"#/components/schemas/Thing{(index * 7 + j * 13 + 1) % schemas}"}
            for j in range(4)
        }
        texts = {
            f"text{j}": {"type": "string", "description": f"Field {j} of {index}. " * 8} for j in range(8)
        }
        return {"type": "object", "required": ["text0"], "properties": {**texts, **links}}

    def operation(index: int) -> dict[str, Any]:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/Thing{index % schemas}"}}}
        return {
            "operationId": f"change_{index}",
            "summary": f"Change thing {index}",
            "description": "What it does, at length. " * 20,
            "parameters": [{"$ref": "#/components/parameters/Page"}],
            "requestBody": {"required": True, "content": content},
            "responses": {"200": {"description": "ok", "content": content}},
        }

    return {
        "openapi": "3.0.3",
        "info": {"title": "Large", "version": "1"},
        "servers": [{"url": "https://large.example"}],
        "paths": {f"/things{index}/{{id}}": {"put": operation(index)} for index in range(operations)},
        "components": {
            "schemas": {f"Thing{index}": schema(index) for index in range(schemas)},
            "parameters": {"Page": {"name": "page", "in": "query", "schema": {"type": "integer"}}},
        },
    }


class PlainDumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_five_megabytes_with_thousands_of_operations_import_in_time(form: str) -> None:
    document = large_document(*((3_200, 1_100) if form == "json" else (2_900, 1_000)))
    text = json.dumps(document) if form == "json" else yaml.dump(document, Dumper=PlainDumper, width=10_000)
    assert 4.5 < len(text) / 2**20 < 5
    before = time.process_time()
    imported = import_openapi(parse(text))
    # Ten seconds are allowed; this only catches growth that is worse than linear, on the busiest machine.
    assert time.process_time() - before < 30
    assert len(imported.operations) > 2_500
    assert len(json.dumps(imported.manifest)) < 16 * 2**20
    for tool in imported.manifest["tools"][::100]:
        compile_schema(tool["input_schema"])
