"""Fitting definitions and answers to what a client's revision can carry."""

from __future__ import annotations

import json
from typing import Any

from servers.protocol.outcome import UNSET, Outcome
from servers.protocol.revisions import FEATURES, Features

Json = dict[str, Any]
# In `_meta` of an answer that is not as good as it should be: a sentence that says why.
DEGRADED = "mooring/degraded"
# In `_meta` of an error that is worth another try: `{"code", "retryAfter"}`, for programs. Seconds.
FAILURE = "mooring/failure"


def fit_definition(definition: Json, revision: str) -> Json:
    """A tool, resource, template or prompt without the members the revision does not know."""
    features = FEATURES[revision]
    fitted = {key: value for key, value in definition.items() if _is_known(key, features)}
    if "outputSchema" in fitted and not features.structured_any:
        schema = _object_schema(fitted["outputSchema"])
        if schema is None:
            del fitted["outputSchema"]
        else:
            fitted["outputSchema"] = schema
    return fitted


def _is_known(key: str, features: Features) -> bool:
    return not (
        (key == "title" and not features.titles)
        or (key == "outputSchema" and not features.structured)
        or (key == "icons" and not features.icons)
    )


def is_object_schema(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "object"


def _object_schema(schema: Any) -> Json | None:
    """Revisions before 2026-07-28 want an object: other schemas are wrapped, unless their `$ref`s would break."""
    if is_object_schema(schema):
        return dict(schema)
    if "$ref" in json.dumps(schema):
        return None
    return {"type": "object", "properties": {"result": schema}, "required": ["result"]}


def call_result(outcome: Outcome, output_schema: Any, revision: str) -> Json:
    """The result of `tools/call` in the shape of the revision."""
    features = FEATURES[revision]
    content = outcome.content
    if not features.resource_links:
        content = [fit_block(block, features) for block in content]
    result: Json = {"content": content}
    structured = _fit_structured(outcome.structured, output_schema, features)
    if structured is not UNSET:
        result["structuredContent"] = structured
    if outcome.is_error:
        result["isError"] = True
        if outcome.retry_after:
            result["_meta"] = {FAILURE: {"code": outcome.failure, "retryAfter": outcome.retry_after}}
    if outcome.degraded:
        result["_meta"] = {DEGRADED: outcome.degraded}
    return result


def _fit_structured(value: Any, output_schema: Any, features: Features) -> Any:
    if value is UNSET or not features.structured:
        return UNSET
    if features.structured_any:
        return value
    if output_schema is not None and not is_object_schema(output_schema):
        return UNSET if _object_schema(output_schema) is None else {"result": value}
    return value if isinstance(value, dict) else {"result": value}


def fit_block(block: Json, features: Features) -> Json:
    if block["type"] == "resource_link" and not features.resource_links:
        return {
            "type": "text",
            "text": f"{block.get('title') or block.get('name', '')} {block['uri']}".strip(),
        }
    return block
