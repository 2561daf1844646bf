"""Parts of a manifest as they are listed on the wire, in the shapes of the newest revision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def of_tool(tool: Json) -> Json:
    definition = _named(tool, {"outputSchema": "output_schema", "annotations": "annotations"})
    definition["inputSchema"] = tool["input_schema"]
    return definition


def of_resource(resource: Json) -> Json:
    return _named(resource, {"uri": "uri", "mimeType": "mime_type", "annotations": "annotations"})


def of_template(template: Json) -> Json:
    return _named(
        template, {"uriTemplate": "uri_template", "mimeType": "mime_type", "annotations": "annotations"}
    )


def of_prompt(prompt: Json) -> Json:
    definition = _named(prompt, {})
    if prompt.get("arguments"):
        definition["arguments"] = [
            {key: argument[key] for key in ("name", "description", "required") if argument.get(key)}
            for argument in prompt["arguments"]
        ]
    return definition


def _named(part: Json, members: Mapping[str, str]) -> Json:
    """A definition on the wire: name, title and description, then the given members that have a value."""
    wanted = {"name": "name", "title": "title", "description": "description"} | dict(members)
    return {wire: part[ours] for wire, ours in wanted.items() if part.get(ours) not in (None, "", {})}
