"""Schemas become self-contained JSON Schema 2020-12 of bounded size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from servers.importers.documents import parse
from servers.importers.openapi import import_openapi
from servers.schemas import compile_schema

DOCUMENTS = Path(__file__).parents[2] / "documents"


def argument(schema: Any, version: str = "3.0.3", **schemas: Any) -> dict[str, Any]:
    """The input schema of a tool whose only argument `a` has this schema."""
    document = {
        "openapi": version,
        "paths": {"/a": {"get": {"parameters": [{"name": "a", "in": "query", "schema": schema}]}}},
        "components": {"schemas": schemas},
    }
    whole: dict[str, Any] = import_openapi(document).manifest["tools"][0]["input_schema"]
    compile_schema(whole)
    return whole


def converted(schema: Any, version: str = "3.0.3", **schemas: Any) -> dict[str, Any]:
    return dict(argument(schema, version, **schemas)["properties"]["a"])


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        (
            {"type": "string", "nullable": True, "enum": ["a"]},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        ({"nullable": True}, {}),
        ({"nullable": False, "type": "string"}, {"type": "string"}),
        (
            {"nullable": True, "oneOf": [{"type": "string"}], "description": "d"},
            {"anyOf": [{"oneOf": [{"type": "string"}]}, {"type": "null"}], "description": "d"},
        ),
        ({"minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1}),
        ({"maximum": 9, "exclusiveMaximum": False}, {"maximum": 9}),
        ({"exclusiveMinimum": True}, {}),
        ({"exclusiveMinimum": 3}, {"exclusiveMinimum": 3}),
        ({"type": "string", "example": "x"}, {"type": "string", "examples": ["x"]}),
        (
            {"type": "string", "enum": [1, "1", True, 1.5]},
            {"type": "string", "enum": ["1", "1", "true", "1.5"]},
        ),
        ({"type": "file"}, {"type": "string"}),
        ({"type": "int"}, {"type": "integer"}),
        ({"type": "wonder"}, {}),
        ({"type": ["string", "wonder"]}, {}),
        (
            {"type": "array", "items": [{"type": "string"}]},
            {"type": "array", "prefixItems": [{"type": "string"}]},
        ),
        ({"allOf": [{"type": "string"}], "description": "d"}, {"type": "string", "description": "d"}),
        ({"type": "object", "xml": {}, "externalDocs": {}, "x-a": 1}, {"type": "object"}),
        (
            {"type": "object", "additionalProperties": False},
            {"type": "object", "additionalProperties": False},
        ),
        ({"type": "object", "additionalProperties": True}, {"type": "object"}),
        ({"pattern": "(?<=a)b"}, {}),
        ({"pattern": "^a+$"}, {"pattern": "^a+$"}),
        ({"required": True, "minLength": -1, "maxLength": "9", "multipleOf": 0, "enum": [], "title": 5}, {}),
        ({"properties": {"p": {"required": True}}}, {"properties": {"p": {}}, "required": ["p"]}),
        ({"properties": {"item_id": {"title": "Item Id"}}}, {"properties": {"item_id": {}}}),
        ({"properties": {"$ref": {"type": "string"}}}, {"properties": {"$ref": {"type": "string"}}}),
        ({"enum": [{"$ref": "http://x.example/"}]}, {"enum": [{"$ref": "http://x.example/"}]}),
        ({"properties": "none", "allOf": "none", "items": 5, "not": None}, {}),
    ],
)
def test_the_spellings_of_openapi_become_those_of_json_schema(given: Any, made: Any) -> None:
    assert converted(given) == made


def test_beside_a_reference_3_0_ignores_all_but_texts_and_3_1_does_not() -> None:
    given = {"$ref": "#/components/schemas/S", "description": "own", "maxLength": 3}
    assert converted(given, S={"type": "string"}) == {"type": "string", "description": "own"}
    assert converted(given, "3.1.0", S={"type": "string"}) == {
        "allOf": [{"type": "string"}], "description": "own", "maxLength": 3,
    }  # fmt: skip


def test_a_nullable_reference_accepts_null() -> None:
    given = {"type": "object", "properties": {"p": {"$ref": "#/components/schemas/S", "nullable": True}}}
    assert converted(given, S={"type": "string"})["properties"]["p"] == {
        "anyOf": [{"type": "string"}, {"type": "null"}],
    }  # fmt: skip


def test_references_are_written_out_once_and_shared_when_used_often() -> None:
    big = {"type": "object", "properties": {f"p{i}": {"type": "string", "maxLength": i} for i in range(20)}}
    once = argument({"$ref": "#/components/schemas/Big"}, Big=big)
    assert "$defs" not in once
    twice = argument({"type": "array", "prefixItems": [{"$ref": "#/components/schemas/Big"}] * 2}, Big=big)
    assert list(twice["$defs"]) == ["Big"]
    assert twice["properties"]["a"]["prefixItems"] == [{"$ref": "#/$defs/Big"}] * 2


@pytest.mark.parametrize(
    "reference",
    ["#/components/schemas/a~1b%20c", "#/components/schemas/a~1b c", "#/components/schemas/a%7E1b%20c"],
)
def test_escaped_pointers_are_followed(reference: str) -> None:
    assert converted({"$ref": reference}, **{"a/b c": {"type": "boolean"}}) == {"type": "boolean"}


def test_circles_stay_circles() -> None:
    node = {
        "type": "object",
        "required": ["next"],
        "properties": {"next": {"$ref": "#/components/schemas/Node"}},
    }
    schema = argument({"$ref": "#/components/schemas/Node"}, Node={**node, "required": []})
    assert schema["$defs"]["Node"]["properties"]["next"] == {"$ref": "#/$defs/Node"}
    validator = compile_schema(schema)
    assert validator.is_valid({"a": {"next": {"next": {}}}})
    assert not validator.is_valid({"a": {"next": {"next": 5}}})


def test_references_that_only_lead_in_a_circle_accept_anything() -> None:
    library = import_openapi(parse((DOCUMENTS / "library.json").read_bytes()))
    loop = library.manifest["tools"][3]["input_schema"]
    assert loop["properties"]["a"] == {}
    assert compile_schema(loop).is_valid({"a": 1, "b": {}})


def test_schemas_of_3_1_are_found_by_anchor_and_inside_themselves() -> None:
    library = import_openapi(parse((DOCUMENTS / "library.json").read_bytes()))
    add, plant = library.manifest["tools"][1]["input_schema"], library.manifest["tools"][2]["input_schema"]
    assert add["properties"]["isbn"] == {"type": "string", "pattern": "^[0-9X-]+$"}
    assert add["properties"]["weird"] == {"type": "string"}
    assert add["required"] == ["title", "isbn", "weird"]
    assert plant["properties"]["pair"] == {"type": "object", "properties": {"left": {"type": "integer"}}}


def test_read_only_properties_are_hidden_through_references_and_all_of() -> None:
    schemas = {
        "Id": {"type": "string", "readOnly": True},
        "Base": {"type": "object", "required": ["id", "made"], "properties": {
            "id": {"$ref": "#/components/schemas/Id"}, "made": {"type": "string", "readOnly": True}}},
        "Thing": {"allOf": [{"$ref": "#/components/schemas/Base"}, {"required": ["id", "name", "made"], "properties": {
            "name": {"type": "string"}}}]},
    }  # fmt: skip
    schema = argument({"$ref": "#/components/schemas/Thing"}, **schemas)
    assert compile_schema(schema).is_valid({"a": {"name": "x"}})
    assert "made" not in json.dumps(schema)
    assert '"id"' not in json.dumps(schema)


def test_what_lies_too_deep_accepts_anything() -> None:
    chain = {
        f"S{i}": {"type": "object", "properties": {"next": {"$ref": f"#/components/schemas/S{i + 1}"}}}
        for i in range(40)
    }
    schema = argument({"$ref": "#/components/schemas/S0"}, **chain, S40={"type": "string"})
    assert "S6: any value." in json.dumps(schema)
    value: Any = 5
    for _ in range(6):
        value = {"next": value}
    assert compile_schema(schema).is_valid({"a": value})
    nested: Any = {"type": "string"}
    for _ in range(45):
        nested = {"type": "object", "properties": {"p": nested}}
    assert "any value is accepted" in json.dumps(argument(nested))


def test_a_web_of_schemas_does_not_multiply() -> None:
    web = {
        f"S{i}": {
            "type": "object",
            "description": "text " * 20,
            "properties": {
                f"r{j}": {"$ref": f"#/components/schemas/S{(i * 7 + j * 13 + 1) % 300}"} for j in range(10)
            },
        }
        for i in range(300)
    }
    assert len(json.dumps(argument({"$ref": "#/components/schemas/S0"}, **web))) < 64 * 1024


def test_all_of_that_multiplies_is_cut_and_still_compiles() -> None:
    doubling = {
        f"S{i}": {"anyOf": [{"$ref": f"#/components/schemas/S{i + 1}"}] * 6, "description": "d" * 300}
        for i in range(6)
    }
    schema = argument({"$ref": "#/components/schemas/S0"}, **doubling, S6={"type": "string"})
    assert len(json.dumps(schema)) < 64 * 1024


def test_long_texts_give_way_before_arguments_do() -> None:
    properties = {f"p{i}": {"type": "string", "description": "long " * 150} for i in range(200)}
    body = {"content": {"application/json": {"schema": {"type": "object", "properties": properties}}}}
    document = {"openapi": "3.0.0", "paths": {"/a": {"post": {"requestBody": body}}}}
    schema = import_openapi(document).manifest["tools"][0]["input_schema"]
    assert len(schema["properties"]) == 200
    assert schema["properties"]["p0"]["type"] == "string"
