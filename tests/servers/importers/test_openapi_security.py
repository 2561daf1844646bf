"""Security schemes become constants with secrets; exactly those that chosen operations need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from servers.importers.documents import parse
from servers.importers.openapi import Imported, import_openapi

DOCUMENTS = Path(__file__).parents[2] / "documents"
SCHEMES: dict[str, Any] = {
    "headerKey": {"type": "apiKey", "in": "header", "name": "X-Key", "description": "Ask us."},
    "queryKey": {"type": "apiKey", "in": "query", "name": "key"},
    "cookie-key": {"type": "apiKey", "in": "cookie", "name": "sid"},
    "basic": {"type": "http", "scheme": "Basic"},
    "bearerAuth": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "OAuth2": {"type": "oauth2", "flows": {}},
    "oidc": {"type": "openIdConnect"},
    "token": {"type": "http", "scheme": "Token"},
    "digest": {"type": "http", "scheme": "digest"},
    "mtls": {"type": "mutualTLS"},
    "odd": {"type": "apiKey", "in": "header", "name": "bad name"},
    "linked": {"$ref": "#/components/securitySchemes/bearerAuth"},
    "far": {"$ref": "https://elsewhere.example/s.yaml"},
}


def imported(security: Any, default: Any = None, **operation: Any) -> Imported:
    return import_openapi(
        {
            "openapi": "3.1.0",
            "servers": [{"url": "https://a.example"}],
            "security": default,
            "paths": {"/a": {"get": {"security": security, **operation}}, "/b": {"get": {}}},
            "components": {"securitySchemes": SCHEMES},
        }
    )


def request(security: Any, **operation: Any) -> dict[str, Any]:
    made = imported(security, **operation)
    assert made.operations[0].path == "/a", made.left_out
    return dict(made.manifest["tools"][0]["http"])


@pytest.mark.parametrize(
    ("scheme", "constant"),
    [
        ("headerKey", {"in": "header", "name": "X-Key", "value": "{secret:header_key}"}),
        ("queryKey", {"in": "query", "name": "key", "value": "{secret:query_key}"}),
        ("cookie-key", {"in": "cookie", "name": "sid", "value": "{secret:cookie_key}"}),
        ("bearerAuth", {"in": "header", "name": "Authorization", "value": "Bearer {secret:bearer_auth}"}),
        ("OAuth2", {"in": "header", "name": "Authorization", "value": "Bearer {secret:oauth2}"}),
        ("oidc", {"in": "header", "name": "Authorization", "value": "Bearer {secret:oidc}"}),
        ("token", {"in": "header", "name": "Authorization", "value": "Token {secret:token}"}),
        ("linked", {"in": "header", "name": "Authorization", "value": "Bearer {secret:linked}"}),
    ],
)
def test_each_scheme_puts_its_secret_in_its_place(scheme: str, constant: dict[str, str]) -> None:
    assert request([{scheme: []}])["constants"] == [constant]


def test_basic_authentication_needs_two_secrets() -> None:
    made = imported([{"basic": []}])
    assert made.manifest["tools"][0]["http"]["basic_auth"] == {
        "username": "{secret:basic_username}",
        "password": "{secret:basic_password}",
    }
    assert list(made.manifest["secrets"]) == ["basic_username", "basic_password"]


def test_the_first_alternative_that_can_be_met_is_taken() -> None:
    assert request([{"digest": []}, {"mtls": []}, {"queryKey": [], "headerKey": []}, {"basic": []}])[
        "constants"
    ] == [
        {"in": "query", "name": "key", "value": "{secret:query_key}"},
        {"in": "header", "name": "X-Key", "value": "{secret:header_key}"},
    ]
    assert "constants" not in request([{}, {"headerKey": []}])
    assert request([{"basic": [], "bearerAuth": []}, {"headerKey": []}])["constants"][0]["name"] == "X-Key"


@pytest.mark.parametrize(
    ("scheme", "hint"),
    [
        ("digest", "HTTP digest"),
        ("mtls", "mutual TLS"),
        ("odd", "`odd`"),
        ("nobody", "does not describe"),
        ("far", "other documents are never opened"),
    ],
)
def test_an_operation_whose_security_cannot_be_met_is_left_out(scheme: str, hint: str) -> None:
    made = imported([{scheme: []}])
    assert [operation.path for operation in made.operations] == ["/b"]
    assert made.left_out[0].what == "GET /a"
    assert hint in made.left_out[0].why


def test_the_documents_security_holds_unless_the_operation_says_otherwise() -> None:
    made = import_openapi(
        {
            "openapi": "3.0.0",
            "security": [{"headerKey": []}],
            "paths": {"/a": {"get": {}, "post": {"security": []}, "put": {"security": [{"queryKey": []}]}}},
            "components": {"securitySchemes": SCHEMES},
        }
    )
    assert [tool["http"].get("constants", [{}])[0].get("name") for tool in made.manifest["tools"]] == [
        "X-Key",
        None,
        "key",
    ]
    assert made.manifest["secrets"] == {
        "header_key": {"description": "API key, sent as the header `X-Key`. Ask us."},
        "query_key": {"description": "API key, sent as the query parameter `key`."},
    }


def test_a_parameter_that_the_secret_fills_is_no_argument() -> None:
    parameters = [{"name": "x-key", "in": "header", "required": True}, {"name": "key", "in": "query"}]
    made = request([{"headerKey": []}], parameters=parameters)
    assert made["parameters"] == [{"in": "query", "name": "key", "argument": "key"}]


def test_secrets_that_nothing_uses_are_not_asked_for() -> None:
    assert "secrets" not in imported([]).manifest
    harbour = import_openapi(parse((DOCUMENTS / "harbour.yaml").read_bytes()))
    assert list(harbour.manifest["secrets"]) == [
        "harbour_key",
        "clerk_username",
        "clerk_password",
        "port_login",
    ]


def test_choosing_operations_chooses_their_secrets_and_variables() -> None:
    harbour = import_openapi(parse((DOCUMENTS / "harbour.yaml").read_bytes()))
    chosen = harbour.chosen(["POST /ships/{shipId}/papers"])
    assert [tool["name"] for tool in chosen["tools"]] == ["uploadPapers"]
    assert list(chosen["secrets"]) == ["clerk_username", "clerk_password"]
    assert list(chosen["variables"]) == ["base_url"]
    notes = harbour.chosen({"POST /notes", "POST /login"})
    assert [tool["name"] for tool in notes["tools"]] == ["login", "addNote"]
    assert list(notes["variables"]) == ["base_url", "base_url_notes_example"]
    assert notes["server"] == {"title": "Harbour Authority", "description": "Berths, ships and cargo."}
