"""Operations become tools: names, arguments, requests, answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from servers.importers.documents import parse
from servers.importers.openapi import Imported, import_openapi

DOCUMENTS = Path(__file__).parents[2] / "documents"


@pytest.fixture(scope="module")
def harbour() -> Imported:
    return import_openapi(parse((DOCUMENTS / "harbour.yaml").read_bytes()))


def tool(imported: Imported, name: str) -> dict[str, Any]:
    return next(tool for tool in imported.manifest["tools"] if tool["name"] == name)


def imported_of(paths: dict[str, Any], **more: Any) -> Imported:
    return import_openapi(
        {
            "openapi": "3.0.3",
            "info": {"title": "T"},
            "servers": [{"url": "https://t.example"}],
            "paths": paths,
        }
        | more
    )


def names_of(paths: dict[str, Any]) -> list[str]:
    return [operation.name for operation in imported_of(paths).operations]


def test_operations_are_listed_in_the_documents_order_with_key_and_name(harbour: Imported) -> None:
    assert [(operation.key, operation.name) for operation in harbour.operations] == [
        ("GET /ships", "list_ships"),
        ("POST /ships", "saveShip"),
        ("GET /ships/{shipId}", "get_ships_by_shipId"),
        ("PUT /ships/{shipId}", "put_ships_by_shipId"),
        ("DELETE /ships/{shipId}", "delete_ships_by_shipId"),
        ("HEAD /ships/{shipId}", "head_ships_by_shipId"),
        ("POST /ships/{shipId}/papers", "uploadPapers"),
        ("GET /ships/{shipId}/papers", "downloadPapers"),
        ("POST /login", "login"),
        ("POST /notes", "addNote"),
        ("PUT /notes", "putNotes"),
        ("PATCH /notes", "drawNotes"),
        ("GET /cargo/{base_url}/{bad name}", "get_cargo_by_base_url_by_bad_name"),
        ("POST /search?mode=full#fragment", "post_search_mode_full_fragment"),
    ]
    first = harbour.operations[0]
    assert (first.method, first.path, first.summary, first.tag) == ("GET", "/ships", "List ships", "Ships")


def test_parameters_keep_their_places_and_styles_and_the_operations_own_win(harbour: Imported) -> None:
    listing = tool(harbour, "list_ships")
    assert listing["http"]["parameters"] == [
        {"in": "query", "name": "limit", "argument": "limit"},
        {"in": "query", "name": "filter[flag]", "argument": "filter_flag"},
        {"in": "query", "name": "area", "argument": "area", "style": "deepObject"},
        {"in": "query", "name": "ids", "argument": "ids", "explode": False},
        {"in": "query", "name": "tags", "argument": "tags", "style": "pipeDelimited"},
        {"in": "query", "name": "query", "argument": "query", "content_type": "application/json"},
        {"in": "header", "name": "X-Trace", "argument": "X-Trace"},
        {"in": "cookie", "name": "session", "argument": "session"},
    ]
    properties = listing["input_schema"]["properties"]
    assert properties["limit"] == {
        "type": "integer",
        "exclusiveMinimum": 0,
        "description": "Of the operation",
    }
    assert properties["filter_flag"] == {
        "type": "string", "enum": ["NO", "on", "12"], "description": "Sent as `filter[flag]`.",
    }  # fmt: skip
    assert properties["X-Trace"]["examples"] == ["7d9f"]
    assert listing["input_schema"]["additionalProperties"] is False
    assert "required" not in listing["input_schema"]


def test_a_json_object_in_the_body_becomes_arguments_without_what_is_read_only(harbour: Imported) -> None:
    replace = tool(harbour, "put_ships_by_shipId")
    assert list(replace["input_schema"]["properties"]) == [
        "shipId", "id", "name", "flag", "built", "tonnage", "captain", "sisters", "secretCode", "note",
    ]  # fmt: skip
    assert replace["input_schema"]["required"] == ["shipId", "name", "note"]
    assert replace["http"]["body"]["fields"]["note"] == "note"
    assert "id" not in replace["http"]["body"]["fields"]
    assert replace["http"]["body"]["required"] is True
    assert replace["http"]["url"] == "{base_url}/ships/{shipId}"


def test_clashing_arguments_end_in_their_place() -> None:
    body = {"required": True, "content": {"application/json": {"schema": {
        "type": "object", "required": ["id"], "properties": {"id": {}, "id_query": {}, "$id": {}}}}}}  # fmt: skip
    parameters = [
        {"name": "id", "in": place, "schema": {}} for place in ("cookie", "header", "query", "path")
    ]
    made = imported_of({"/a/{id}": {"post": {"parameters": parameters, "requestBody": body}}}).manifest[
        "tools"
    ][0]
    assert [(one["in"], one["argument"]) for one in made["http"]["parameters"]] == [
        ("path", "id"), ("query", "id_query"), ("header", "id_header"), ("cookie", "id_cookie"),
    ]  # fmt: skip
    assert made["http"]["body"]["fields"] == {
        "id": "id_body",
        "id_query": "id_query_body",
        "$id": "id_body_2",
    }
    assert made["input_schema"]["required"] == ["id", "id_body"]


def test_bodies_of_other_kinds(harbour: Imported) -> None:
    papers = tool(harbour, "uploadPapers")
    assert papers["http"]["body"] == {
        "content_type": "multipart/form-data",
        "fields": {"file": "file", "pages": "pages", "comment": "comment"},
        "binary": ["file", "pages"],
        "required": True,
    }
    assert papers["input_schema"]["properties"]["file"] == {
        "type": "string", "contentEncoding": "base64", "description": "The scan. A file, given as base64.",
    }  # fmt: skip
    assert papers["input_schema"]["properties"]["pages"]["items"] == {
        "type": "string",
        "contentEncoding": "base64",
    }
    login = tool(harbour, "login")
    assert login["http"]["body"] == {
        "content_type": "application/x-www-form-urlencoded", "fields": {"user": "user", "pin": "pin"},
    }  # fmt: skip
    assert "required" not in login["input_schema"]  # the whole body may be left out
    assert tool(harbour, "addNote")["http"]["body"] == {
        "content_type": "text/plain", "argument": "body", "required": True,
    }  # fmt: skip
    assert tool(harbour, "putNotes")["input_schema"]["properties"]["body"] == {
        "type": "array", "items": {"type": "string"},
    }  # fmt: skip
    assert tool(harbour, "drawNotes")["http"]["body"] == {
        "content_type": "image/png", "argument": "body", "binary": True,
    }  # fmt: skip
    search = tool(harbour, "post_search_mode_full_fragment")
    assert search["http"]["body"]["argument"] == "body_body"
    assert search["input_schema"]["properties"]["body_body"]["discriminator"] == {
        "propertyName": "kind", "mapping": {"ship": "Ship"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        ({"application/xml": {}, "application/json; charset=utf-8": {"schema": {}}}, "application/json"),
        ({"application/merge-patch+json": {"schema": {"type": "object"}}}, "application/merge-patch+json"),
        ({"*/*": {"schema": {"type": "array"}}}, "application/json"),
        ({"multipart/form-data": {}, "application/json": {}}, "application/json"),
        ({"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}, "application/octet-stream"),
    ],
)  # fmt: skip
def test_the_best_content_type_is_chosen(content: dict[str, Any], sent: str) -> None:
    made = imported_of({"/a": {"post": {"requestBody": {"content": content}}}}).manifest["tools"][0]
    assert made["http"]["body"]["content_type"] == sent
    assert made["http"]["body"]["argument"] == "body"


def test_a_body_that_cannot_be_sent_is_left_out_when_it_may_be() -> None:
    xml = {"content": {"application/xml": {}}}
    imported = imported_of(
        {"/a": {"post": {"requestBody": xml}, "put": {"requestBody": {**xml, "required": True}}}}
    )
    assert [operation.key for operation in imported.operations] == ["POST /a"]
    assert "body" not in imported.manifest["tools"][0]["http"]
    assert {one.what for one in imported.left_out} == {"POST /a, body", "PUT /a"}


def test_odd_paths_become_sound_templates(harbour: Imported) -> None:
    cargo = tool(harbour, "get_cargo_by_base_url_by_bad_name")
    assert cargo["http"]["url"] == "{base_url}/cargo/{path_base_url}/{path_bad_name}"
    assert cargo["http"]["parameters"] == [
        {"in": "path", "name": "path_base_url", "argument": "base_url"},
        {"in": "path", "name": "path_bad_name", "argument": "bad_name"},
    ]
    search = tool(harbour, "post_search_mode_full_fragment")
    assert search["http"]["url"] == "{base_url}/search"
    assert search["http"]["constants"][0] == {"in": "query", "name": "mode", "value": "full"}


def test_answers_tell_how_they_are_read(harbour: Imported) -> None:
    assert tool(harbour, "get_ships_by_shipId")["http"]["response"] == {"as": "json"}
    assert tool(harbour, "downloadPapers")["http"]["response"] == {"as": "binary"}
    assert tool(harbour, "uploadPapers")["http"]["response"] == {"as": "text"}
    assert "response" not in tool(harbour, "addNote")["http"]
    ship = tool(harbour, "get_ships_by_shipId")["output_schema"]
    assert ship["type"] == "object"
    assert "id" in ship["properties"]
    assert "secretCode" not in ship["properties"]


def test_an_output_schema_must_hold_for_every_success() -> None:
    def answer(**codes: Any) -> dict[str, Any]:
        responses = {
            code.strip("_"): {"content": {"application/json": {"schema": schema}} if schema else {}}
            for code, schema in codes.items()
        }
        made = imported_of({"/a": {"get": {"responses": responses}}}).manifest["tools"][0]
        return dict(made.get("output_schema", {}))

    thing = {"type": "object", "additionalProperties": False, "properties": {"a": {"type": "string"}}}
    assert answer(_200=thing) == {"type": "object", "properties": {"a": {"type": "string"}}}
    assert answer(_404={"type": "object"}, _2XX=thing)
    assert answer(_200=thing, _201=thing, default={"type": "object"})
    assert answer(_200=thing, _204=None) == {}
    assert answer(_200=thing, _202={"type": "object"}) == {}
    assert answer(_200={"type": "array"}) == {}
    assert answer(_200={"type": "object", "nullable": True}) == {}
    assert answer(_200={"type": "object", "description": "x" * 900, "properties": {
        f"p{i}": {"type": "string", "description": "y" * 200} for i in range(100)}}) == {}  # fmt: skip


def test_texts_and_hints(harbour: Imported) -> None:
    listing, saving = tool(harbour, "list_ships"), tool(harbour, "saveShip")
    assert (listing["title"], listing["description"]) == ("List ships", "List ships that are in port.")
    assert saving["description"] == "Deprecated.\n\nRegister a ship"
    assert listing["annotations"] == {"readOnlyHint": True, "openWorldHint": True}
    assert saving["annotations"] == {"readOnlyHint": False, "idempotentHint": False, "openWorldHint": True}
    assert tool(harbour, "delete_ships_by_shipId")["annotations"] == {
        "readOnlyHint": False, "idempotentHint": True, "destructiveHint": True, "openWorldHint": True,
    }  # fmt: skip
    assert tool(harbour, "login")["description"] == "Calls POST /login."


def test_names_are_readable_unique_and_of_few_characters() -> None:
    def operation(name: str | None = None) -> dict[str, Any]:
        return {"responses": {}} | ({"operationId": name} if name is not None else {})

    assert names_of(
        {
            "/api/v1/users/{user-id}/posts": {"get": operation(), "post": operation("Posts.create post")},
            "/v1/users/{user-id}/posts": {"get": operation()},
            "/": {"get": operation(), "post": operation("ünïcode")},
            "/日本": {"get": operation(), "post": operation("名前")},
            "/a": {"get": operation("same"), "post": operation("Same"), "put": operation("2fa")},
            "/b": {"get": operation("x" * 80), "post": operation("x" * 80)},
            "/" + "long/" * 40: {"get": operation()},
            "/b/c": {"get": operation("get_b")},
            "/b/{c}": {"get": operation("get_b"), "put": operation("get_b_by_c")},
        }
    ) == [
        "get_users_by_user-id_posts",
        "Posts_create_post",
        "get_v1_users_by_user-id_posts",
        "get_root",
        "unicode",
        "get_root_2",
        "post_root",
        "same",
        "post_a",
        "put_2fa",
        "x" * 64,
        "post_b",
        ("get_" + "long_" * 40)[:64].rstrip("_"),
        "get_b",
        "get_b_by_c",
        "put_b_by_c",
    ]


def test_addresses_become_variables(harbour: Imported) -> None:
    assert harbour.manifest["variables"] == {
        "base_url": {
            "default": "https://eu.harbour.example/v2",
            "description": "Production. region may be eu, us. The document also names https://sandbox.harbour.example.",
        },
        "base_url_notes_example": {"default": "https://notes.example/api"},
    }
    assert tool(harbour, "addNote")["http"]["url"] == "{base_url_notes_example}/notes"


@pytest.mark.parametrize(
    ("servers", "source", "default"),
    [
        ([{"url": "/v1/"}], "https://a.example/docs/openapi.json", "https://a.example/v1"),
        ([{"url": "../v1"}], "https://a.example/docs/openapi.json", "https://a.example/v1"),
        ([{"url": "//b.example:8443"}], "https://a.example/x", "https://b.example:8443"),
        ([], "https://a.example/docs/openapi.json", "https://a.example"),
        ([{"url": "https://user:pw@b.example/x?y=1#z"}], None, "https://b.example/x"),
        ([{"url": "wss://b.example"}, {"url": "http://c.example"}], None, "http://c.example"),
        ([{"url": "http://[2001:db8::1]:80/x"}], None, "http://[2001:db8::1]:80/x"),
        ([{"url": "https://{h}.example", "variables": {"h": {"enum": ["first"]}}}], None, "https://first.example"),
        ([{"url": "https://{h}.example"}], None, ""),
        ([{"url": "/v1"}], None, ""),
        ([{"url": "/v1"}], "file:///etc/passwd", ""),
        ([{"url": "http://["}], None, ""),
        ([{"url": "https://a b.example"}], None, ""),
        ([{"url": "https://a.example:port"}], None, ""),
        ("nonsense", None, ""),
        ([None, {"url": 5}], None, ""),
    ],
)  # fmt: skip
def test_an_address_is_resolved_or_must_be_set(servers: Any, source: str | None, default: str) -> None:
    document = {"openapi": "3.1.0", "servers": servers, "paths": {"/a": {"get": {}}}}
    imported = import_openapi(document, source_url=source)
    assert imported.manifest["variables"]["base_url"].get("default", "") == default
    assert imported.manifest["tools"][0]["http"]["url"] == "{base_url}/a"
    assert ("base_url" in {one.what for one in imported.left_out}) is (not default)


def test_callbacks_links_and_other_methods_are_listed_once(harbour: Imported) -> None:
    assert [(one.what, one.why.rpartition("(")[2]) for one in harbour.left_out] == [
        ("other methods", "/ships/{shipId})"),
        ("links", "GET /ships)"),
        ("callbacks", "POST /ships)"),
    ]


def test_progress_is_told_from_nothing_to_all() -> None:
    told: list[tuple[int, int]] = []
    document = {"openapi": "3.0.0", "paths": {f"/{i}": {"get": {}} for i in range(120)}}
    import_openapi(document, progress=lambda done, whole: told.append((done, whole)))
    assert told == [(0, 120), (50, 120), (100, 120), (120, 120)]
