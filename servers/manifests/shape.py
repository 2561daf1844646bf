"""The JSON Schema of a manifest. What a schema cannot say is in `servers.manifests.checking`."""

from __future__ import annotations

import re
from typing import Any

from servers.runtimes.http.definition import LONGEST_TIMEOUT

Json = dict[str, Any]
FORMAT = 1
SECRET_NAME = r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"
UPSTREAM_NAME = r"[a-z][a-z0-9-]{0,31}"
MOST_UPSTREAMS = 20
MOST_MEMBERS = 20
MOST_HOSTS = 50
MOST_VARIABLES = 100
MOST = {"tools": 5_000, "resources": 2_000, "resource_templates": 500, "prompts": 500}
PART = {
    "tools": "tool",
    "resources": "resource",
    "resource_templates": "resource_template",
    "prompts": "prompt",
}
SECTIONS = tuple(PART)


def is_upstream_name(name: str) -> bool:
    return re.fullmatch(UPSTREAM_NAME, name) is not None


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


def _one_of(*names: str) -> list[Json]:
    return [{"required": [name]} for name in names]


def _ref(name: str) -> Json:
    return {"$ref": f"#/$defs/{name}"}


def _remote(**theirs: Json) -> Json:
    """What a part is called at its upstream, and the digest of the definition it was taken over with."""
    called = {"upstream": {"type": "string", "pattern": f"^{UPSTREAM_NAME}$"}} | theirs
    return _object(" ".join((*called, "digest")), **called, digest=_DIGEST, timeout_seconds=_TIMEOUT)


_SWITCH = {"type": "boolean"}
_DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
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
_TIMEOUT = {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_TIMEOUT}
_HTTP = _object(
    "method url",
    method={"enum": ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]},
    url=_text(4_000, 1),
    parameters=_list(_PARAMETER, 1_000),
    constants=_list(_CONSTANT, 100),
    basic_auth=_object(username=_text(2_000), password=_text(2_000)),
    body=_BODY,
    response=_object(**{"as": {"enum": ["auto", "json", "text", "binary"]}}, pick=_text(1_000)),
    timeout_seconds=_TIMEOUT,
)
_HEADER_NAME = "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}"
_ENVIRONMENT_NAME = "[A-Za-z_][A-Za-z0-9_]{0,99}"
_UPSTREAM = _object(
    url=_text(4_000, 1),
    headers=_named(_text(8_000), _HEADER_NAME, 50),
    transport={"enum": ["auto", "http", "sse"]},
    code=_DIGEST,
    mode={"enum": ["shared", "session"]},
    hosts=_list(_text(260, 1), MOST_HOSTS),
    environment=_named(_text(32_000), _ENVIRONMENT_NAME, MOST_VARIABLES),
    memory_mb={"type": "integer", "minimum": 64, "maximum": 1024},
    on_change={"enum": ["refuse", "serve"]},
) | {"oneOf": _one_of("url", "code")}
_CACHE = _object(
    "seconds",
    seconds={"type": "number", "exclusiveMinimum": 0, "maximum": 24 * 3600},
    stale_seconds={"type": "number", "minimum": 0, "maximum": 7 * 24 * 3600},
    shared=_SWITCH,
)
_MEMBER = _object(
    "server",
    server=_text(63, 1),
    channel=_text(63, 1),
    prefix=_text(32, pattern="^[A-Za-z0-9_.-]*$"),
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
        upstreams=_named(_ref("upstream"), UPSTREAM_NAME, MOST_UPSTREAMS),
        members=_list(_MEMBER, MOST_MEMBERS),
        **{section: _list(_ref(part), MOST[section]) for section, part in PART.items()},
    ),
    "$defs": {
        "upstream": _UPSTREAM,
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
                remote=_remote(name=_WIRE_NAME),
                static=_STATIC,
                cache=_CACHE,
                enabled=_SWITCH,
            ),
            "oneOf": _one_of("http", "remote", "static"),
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
                remote=_remote(uri=_text(1_000, 1)),
                annotations=_ANNOTATIONS,
                cache=_CACHE,
                enabled=_SWITCH,
            ),
            "oneOf": _one_of("text", "blob", "remote"),
        },
        "resource_template": {
            **_object(
                "name uri_template",
                name=_text(128, 1),
                **_DESCRIBED,
                uri_template=_text(1_000, 1),
                mime_type=_text(120),
                text=_TEXT,
                remote=_remote(),
                completions=_named(_VALUES),
                annotations=_ANNOTATIONS,
                cache=_CACHE,
                enabled=_SWITCH,
            ),
            "oneOf": _one_of("text", "remote"),
        },
        "prompt": {
            **_object(
                "name",
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
                remote=_remote(name=_WIRE_NAME),
                enabled=_SWITCH,
            ),
            "oneOf": _one_of("messages", "remote"),
        },
    },
}
