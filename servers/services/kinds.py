"""How the rows of a draft and the parts of a manifest are written into each other, without loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from servers.models import DraftRow, Prompt, Resource, ResourceTemplate, Tool

Definition = dict[str, Any]
_Row = TypeVar("_Row", bound=DraftRow)


@dataclass(frozen=True, slots=True)
class Kind(Generic[_Row]):
    """One kind of row: its section in a manifest, and what tells two of its rows apart."""

    noun: str
    section: str
    key: str
    model: type[_Row]
    fields_of: Callable[[Definition], dict[str, Any]]
    definition_of: Callable[[_Row], Definition]

    @property
    def columns(self) -> list[str]:
        """Every field a definition decides; `position` is decided by its place in the list."""
        return [*self.fields_of({self.key: "", "name": ""}), "position"]


def _common(definition: Definition) -> dict[str, Any]:
    return {
        "name": definition["name"],
        "title": definition.get("title", ""),
        "description": definition.get("description", ""),
        "is_enabled": definition.get("enabled", True),
    }


def _described(row: DraftRow, **rest: Any) -> Definition:
    """The definition with empty parts left out; `...` stands for "not there" so that None and "" can be told."""
    head = {"name": row.name, "title": row.title or ..., "description": row.description or ...}
    tail = {"enabled": ... if row.is_enabled else False}
    return {name: value for name, value in (head | rest | tail).items() if value is not ...}


def _tool_fields(definition: Definition) -> dict[str, Any]:
    return _common(definition) | {
        "input_schema": definition.get("input_schema", {}),
        "output_schema": definition.get("output_schema"),
        "annotations": definition.get("annotations", {}),
        "binding": {kind: definition[kind] for kind in ("http", "remote", "static") if kind in definition},
        "cache": definition.get("cache", {}),
    }


def _tool_definition(row: Tool) -> Definition:
    return _described(
        row,
        input_schema=row.input_schema,
        output_schema=... if row.output_schema is None else row.output_schema,
        annotations=row.annotations or ...,
        **row.binding,
        cache=row.cache or ...,
    )


def _resource_fields(definition: Definition) -> dict[str, Any]:
    return _common(definition) | {
        "uri": definition.get("uri", ""),
        "mime_type": definition.get("mime_type", ""),
        "text": definition.get("text", ""),
        "blob": definition.get("blob", ""),
        "remote": definition.get("remote", {}),
        "annotations": definition.get("annotations", {}),
        "cache": definition.get("cache", {}),
    }


def _resource_definition(row: Resource) -> Definition:
    content = {"blob": row.blob} if row.blob else {"text": row.text}
    content = {"remote": row.remote} if row.remote else content
    return _described(
        row,
        uri=row.uri,
        mime_type=row.mime_type or ...,
        **content,
        annotations=row.annotations or ...,
        cache=row.cache or ...,
    )


def _template_fields(definition: Definition) -> dict[str, Any]:
    return _common(definition) | {
        "uri_template": definition.get("uri_template", ""),
        "mime_type": definition.get("mime_type", ""),
        "text": definition.get("text", ""),
        "remote": definition.get("remote", {}),
        "completions": definition.get("completions", {}),
        "annotations": definition.get("annotations", {}),
        "cache": definition.get("cache", {}),
    }


def _template_definition(row: ResourceTemplate) -> Definition:
    return _described(
        row,
        uri_template=row.uri_template,
        mime_type=row.mime_type or ...,
        text=... if row.remote else row.text,
        remote=row.remote or ...,
        completions=row.completions or ...,
        annotations=row.annotations or ...,
        cache=row.cache or ...,
    )


def _prompt_fields(definition: Definition) -> dict[str, Any]:
    return _common(definition) | {
        "arguments": definition.get("arguments", []),
        "messages": definition.get("messages", []),
        "remote": definition.get("remote", {}),
    }


def _prompt_definition(row: Prompt) -> Definition:
    return _described(
        row,
        arguments=row.arguments or ...,
        messages=... if row.remote else row.messages,
        remote=row.remote or ...,
    )


TOOL = Kind("tool", "tools", "name", Tool, _tool_fields, _tool_definition)
RESOURCE = Kind("resource", "resources", "uri", Resource, _resource_fields, _resource_definition)
TEMPLATE = Kind(
    "resource template",
    "resource_templates",
    "uri_template",
    ResourceTemplate,
    _template_fields,
    _template_definition,
)
PROMPT = Kind("prompt", "prompts", "name", Prompt, _prompt_fields, _prompt_definition)
KINDS: tuple[Kind[Any], ...] = (TOOL, RESOURCE, TEMPLATE, PROMPT)


def kind_of(row: DraftRow) -> Kind[Any]:
    return next(kind for kind in KINDS if isinstance(row, kind.model))
