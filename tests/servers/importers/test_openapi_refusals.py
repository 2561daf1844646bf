"""What is not imported is told in sentences that say what to do, and nothing is ever opened."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from mooring.errors import InvalidInput
from servers.importers.documents import parse
from servers.importers.openapi import import_openapi

DOCUMENTS = Path(__file__).parents[2] / "documents"


def refusal(document: dict[str, Any]) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        import_openapi(document)
    return caught.value


@pytest.mark.parametrize(
    ("document", "hint"),
    [
        ({"swagger": "2.0", "paths": {}}, "Convert it to OpenAPI 3"),
        ({"swagger": 2.0}, "Swagger 2.0"),
        ({"openapi": "2.0"}, "Swagger 2.0"),
        ({"openapi": "4.0.0"}, "OpenAPI 4.0.0"),
        ({"openapi": "30.1"}, "OpenAPI 30.1"),
        ({"openapi": None}, "not an OpenAPI document"),
        ({"openapi": ["3.0.0"]}, "not an OpenAPI document"),
        ({"asyncapi": "3.0.0"}, "AsyncAPI"),
        ({"mooring": 1, "server": {}}, "manifest"),
        ({"info": {}, "item": []}, "Postman"),
        ({"hello": "world"}, "openapi: 3.1.0"),
        ({}, "not an OpenAPI document"),
    ],
)
def test_what_is_not_openapi_3_is_refused(document: dict[str, Any], hint: str) -> None:
    error = refusal(document)
    assert error.reason == "not_openapi_3"
    assert hint in error.message


def test_a_swagger_2_file_is_refused() -> None:
    assert "swagger2openapi" in refusal(parse((DOCUMENTS / "swagger-2.json").read_bytes())).message


@pytest.mark.parametrize(
    "paths", [None, {}, [], "x", {"/a": None}, {"/a": {"x-get": {}}}, {"x-a": {"get": {}}}]
)
def test_a_document_without_operations_is_refused(paths: Any) -> None:
    assert refusal({"openapi": "3.0.0", "paths": paths}).reason == "no_operations"


@pytest.mark.parametrize("version", ["3.0.0", "3.1.1", "3.2.0", 3.0, 3.1, "3.0.0-rc2"])
def test_every_3_is_read_also_when_written_as_a_number(version: Any) -> None:
    assert import_openapi({"openapi": version, "paths": {"/a": {"get": {}}}}).title == "Imported API"


@pytest.mark.parametrize(
    "paths",
    [
        {"/a": {"$ref": "https://elsewhere.example/a.yaml"}},
        {"/a": {"get": {"parameters": [{"$ref": "parameters.yaml#/A"}]}}},
        {"/a": {"post": {"requestBody": {"$ref": "file:///etc/passwd"}}}},
        {"/a": {"get": {"parameters": [{"name": "q", "in": "query", "schema": {"$ref": "http://[bad"}}]}}},
    ],
)
def test_a_document_spread_over_files_is_refused_and_told_to_bundle(paths: dict[str, Any]) -> None:
    error = refusal({"openapi": "3.1.0", "paths": paths})
    assert error.reason == "remote_reference"
    assert "Bundle everything into one file" in error.message


def test_one_broken_operation_does_not_fail_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    damaged = import_openapi(parse((DOCUMENTS / "damaged.yaml").read_bytes()))
    assert [operation.path for operation in damaged.operations] == [
        "/sound", "/remote-answer", "/optional-xml", "/half-odd-place", "/undeclared/{id}/{other}",
    ]  # fmt: skip
    why = {one.what: one.why for one in damaged.left_out}
    for what, hint in {
        "/remote-path": "Bundle",
        "POST /remote-body": "`./a.yaml#/A`",
        "GET /remote-parameter": "Bundle",
        "GET /missing": "does not have",
        "GET /digest": "HTTP digest",
        "GET /unknown-scheme": "`nobody`",
        "POST /xml": "application/xml",
        "POST /optional-xml, body": "application/xml",
        "GET /braces/{id": "braces",
        "GET /nothing": "not describe",
        "GET /circle": "refers to itself",
        "GET /odd-place": "`in: body`",
        "GET /half-odd-place, parameter c": "`in: nowhere`",
        "base_url": "Set the variable base_url",
        "schema of the answer": "(GET /remote-answer)",
    }.items():
        assert hint in why.pop(what)
    assert why == {}
    undeclared = damaged.manifest["tools"][-1]
    assert undeclared["input_schema"]["required"] == ["id", "other"]
    assert undeclared["http"]["url"] == "{base_url}/undeclared/{id}/{other}"


@pytest.mark.parametrize(
    "document",
    [
        {
            "paths": {
                "/a": {
                    "get": {"parameters": {"name": "x"}, "responses": [1], "tags": "x", "security": {"a": 1}}
                }
            }
        },
        {"paths": {"/a": {"get": {"parameters": [None, 5, {"in": "query"}, {"name": 5, "in": "query"}]}}}},
        {"paths": {"/a": {"get": {"summary": 5, "description": [], "operationId": {}, "deprecated": "yes"}}}},
        {
            "paths": {
                "/a": {"get": {"responses": {"200": None, "201": {"content": {"application/json": None}}}}}
            }
        },
        {"paths": {"/a": {"post": {"requestBody": {"content": {"application/json": {"schema": []}}}}}}},
        {"paths": {"/a": {"get": {}}}, "components": [], "servers": {}, "info": "x", "security": "none"},
        {"paths": {"/a": {"get": {}}}, "components": {"securitySchemes": {"a": 5, "b": {"type": 5}}}},
        {"paths": {"/a": {"get": {}, "summary": "path", "servers": [{"url": {}}], "parameters": "x"}}},
    ],
)
def test_parts_of_the_wrong_type_are_as_good_as_absent(document: dict[str, Any]) -> None:
    assert len(import_openapi({"openapi": "3.0.3", **document}).operations) == 1


def test_choosing_nothing_or_the_unknown_is_refused() -> None:
    damaged = import_openapi(parse((DOCUMENTS / "damaged.yaml").read_bytes()))
    with pytest.raises(InvalidInput, match="Choose at least one"):
        damaged.chosen([])
    with pytest.raises(InvalidInput, match="no operation GET /digest"):
        damaged.chosen(["GET /sound", "GET /digest"])
