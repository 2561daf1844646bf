"""How drf-spectacular describes this API: names of operations, the bearer key, the error shape."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema

METHODS = ("get", "post", "put", "patch", "delete")
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "class", "message", "data", "request_id"],
            "properties": {
                "code": {"type": "string", "description": "stable, for programs"},
                "class": {"type": "string", "enum": ["client", "server", "external"]},
                "message": {"type": "string", "description": "a sentence for people"},
                "data": {
                    "type": "object",
                    "description": "when input was bad: fields maps a field to sentences",
                },
                "request_id": {"type": "string"},
            },
        }
    },
}
_ONCE = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "maxLength": 200},
    "description": "The same request sent again with it is answered as the first one was, for a day.",
}
_PAGE = [
    {
        "in": "query",
        "name": "cursor",
        "schema": {"type": "string"},
        "description": "what the page before gave as next",
    },
    {
        "in": "query",
        "name": "limit",
        "schema": {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
        "description": "rows a page",
    },
]


class NamedByPath(AutoSchema):
    """`GET /api/v1/servers/{slug}/draft` is `get_servers_slug_draft`: unique without a list of names."""

    def get_operation_id(self) -> str:
        words = re.findall(r"[a-z]+", self.path.removeprefix("/api/v1"))
        return "_".join([self.method.lower(), *words])

    def get_description(self) -> str:  # type: ignore[override]  # as drf-spectacular calls it
        """Only what `extend_schema` says: docstrings are for who works on the code."""
        return ""


class BearerKey(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself untyped
    target_class = "mooring.api.authentication.ApiKeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "An API key, moor_…"}


@cache
def document() -> dict[str, Any]:
    """The whole OpenAPI document. It is made of code alone, so once a process is enough."""
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # not annotated
    made["components"]["schemas"]["Error"] = _ERROR
    refused = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    for path in made["paths"].values():
        for method in METHODS:
            if operation := path.get(method):
                _complete(method, operation, refused)
    return made


def _complete(method: str, operation: dict[str, Any], refused: dict[str, Any]) -> None:
    operation["responses"]["default"] = {"description": "A refusal.", **refused}
    parameters = operation.setdefault("parameters", [])
    if method != "get":
        parameters.append(_ONCE)
    if _answers_page(operation):
        parameters.extend(_PAGE)


def _answers_page(operation: dict[str, Any]) -> bool:
    content = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
    return str(content.get("schema", {}).get("$ref", "")).endswith("Page")
