"""The JSON Schema of a manifest. What a schema cannot say is in `servers.manifests.checking`."""

from __future__ import annotations

from typing import Any

from servers.runtimes.http.definition import LONGEST_TIMEOUT

Json = dict[str, Any]
FORMAT = 1
SECRET_NAME = r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"
MOST = {"tools": 5_000, "resources": 2_000, "resource_templates": 500, "prompts": 500}
PART = {
    "tools": "tool",
    "resources": "resource",
    "resource_templates": "resource_template",
    "prompts": "prompt",
}


def _text(most: int, least: int = 0, **more: Any) -> Json:
    return {"type": "string", "maxLength": most} | ({"minLength": least} if least else {}) | more


def _object(required: str = "", /, **properties: Any) -> Json:
    shape: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return shape | ({"required": required.split()} if required else {})


def _list(items: Json, most: int, least: int = 0) -> Json:
    return {"type": "array", "items": items, "maxItems": most} | ({"minItems": least} if least else {})


def _named(values: Json, pattern: str = SECRET_NAME, most: int = 100) -> Json:
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^{pattern}$"},
        "additionalProperties": values,
        "maxProperties": most,
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/$defs/{name}"}


_SWITCH = {"type": "boolean"}
_WIRE_NAME = _text(200, 1)
_ARGUMENT = _text(200, 1)
_DESCRIBED = {"title": _text(200), "description": _text(20_000)}
_TEXT = _text(1024 * 1024)
_VALUES = _list(_text(1_000), 1_000)
_HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")

_PARAMETER = _object(
    "in name argument",
    **{"in": {"enum": ["path", "query", "header", "cookie"]}},
    name=_WIRE_NAME,
    argument=_ARGUMENT,
    style={
        "enum": ["form", "simple", "label", "matrix", "spaceDelimited", "pipeDelimited", "deepObject"],
    },
    explode=_SWITCH,
    content_type=_text(120),
)
_CONSTANT = _object(
    "in name value",
    **{"in": {"enum": ["query", "header", "cookie"]}},
    name=_WIRE_NAME,
    value=_text(8_000),
)
_BODY = _object(
    content_type=_text(200, 1),
    argument=_ARGUMENT,
    fields={"type": "object", "additionalProperties": _ARGUMENT, "maxProperties": 1_000},
    required=_SWITCH,
    binary={"oneOf": [_SWITCH, _list(_WIRE_NAME, 1_000)]},
)
_HTTP = _object(
    "method url",
    method={"enum": ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]},
    url=_text(4_000, 1),
    parameters=_list(_PARAMETER, 1_000),
    constants=_list(_CONSTANT, 100),
    basic_auth=_object(username=_text(2_000), password=_text(2_000)),
    body=_BODY,
    response=_object(**{"as": {"enum": ["auto", "json", "text", "binary"]}}, pick=_text(1_000)),
    timeout_seconds={"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_TIMEOUT},
)
_STATIC = _object("kind", kind={"enum": ["echo", "clock", "text"]}, text=_text(100_000))
_ANNOTATIONS = {
    "type": "object",
    "properties": {
        "audience": _list({"enum": ["user", "assistant"]}, 2),
        "priority": {"type": "number", "minimum": 0, "maximum": 1},
        "lastModified": _text(64),
    },
}

SCHEMA: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Mooring manifest",
    **_object(
        "mooring server",
        mooring={"const": FORMAT},
        server=_object("title", title=_text(120, 1), description=_text(2_000), instructions=_text(20_000)),
        variables=_named(_object(default=_text(2_000), description=_text(2_000))),
        secrets=_named(_object(description=_text(2_000))),
        **{section: _list(_ref(part), MOST[section]) for section, part in PART.items()},
    ),
    "$defs": {
        "tool": {
            **_object(
                "name input_schema",
                name=_text(128, 1, pattern="^[A-Za-z0-9_.-]+$"),
                **_DESCRIBED,
                input_schema={
                    "type": "object",
                    "properties": {"type": {"const": "object"}},
                    "required": ["type"],
                },
                output_schema={"type": "object"},
                annotations={"type": "object", "properties": dict.fromkeys(_HINTS, _SWITCH)},
                http=_HTTP,
                static=_STATIC,
                enabled=_SWITCH,
            ),
            "oneOf": [{"required": ["http"]}, {"required": ["static"]}],
        },
        "resource": {
            **_object(
                "name uri",
                name=_text(128, 1),
                **_DESCRIBED,
                uri=_text(1_000, 1),
                mime_type=_text(120),
                text=_TEXT,
                blob=_text(4 * 1024 * 1024, 1),
                annotations=_ANNOTATIONS,
                enabled=_SWITCH,
            ),
            "oneOf": [{"required": ["text"]}, {"required": ["blob"]}],
        },
        "resource_template": _object(
            "name uri_template text",
            name=_text(128, 1),
            **_DESCRIBED,
            uri_template=_text(1_000, 1),
            mime_type=_text(120),
            text=_TEXT,
            completions=_named(_VALUES),
            annotations=_ANNOTATIONS,
            enabled=_SWITCH,
        ),
        "prompt": _object(
            "name messages",
            name=_text(128, 1),
            **_DESCRIBED,
            arguments=_list(
                _object(
                    "name",
                    name=_text(128, 1),
                    title=_text(200),
                    description=_text(2_000),
                    required=_SWITCH,
                    completions=_VALUES,
                ),
                100,
            ),
            messages=_list(
                _object("role text", role={"enum": ["user", "assistant"]}, text=_text(100_000, 1)), 100, 1
            ),
            enabled=_SWITCH,
        ),
    },
}
