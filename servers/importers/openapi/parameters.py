"""Parameters of a path and its operation → arguments, and where the request carries them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from servers.importers.openapi.arguments import Arguments
from servers.importers.openapi.findings import Findings, LeaveOut
from servers.importers.openapi.reading import mapping, named, sequence, text
from servers.importers.openapi.references import References
from servers.importers.openapi.wire_names import DESCRIBED_ELSEWHERE, MAX_LENGTH, OF_THE_CONNECTION, is_token

PLACES = ("path", "query", "header", "cookie")
_STYLES = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
# What 3.0 puts into a schema and careless documents put beside it, as Swagger 2.0 did.
_LOOSE = (
    "type",
    "format",
    "enum",
    "items",
    "default",
    "minimum",
    "maximum",
    "pattern",
    "minLength",
    "maxLength",
)


@dataclass(frozen=True)
class Parameter:
    place: str
    name: str
    node: dict[str, Any]

    @property
    def is_required(self) -> bool:
        return self.place == "path" or self.node.get("required") is True


def parameters_of(item: dict[str, Any], operation: dict[str, Any], references: References) -> list[Parameter]:
    """The operation's own override the path's by place and name. Raises `LeaveOut` for one that cannot be had."""
    found: dict[tuple[str, str], Parameter] = {}
    for level in (item, operation):
        own: dict[tuple[str, str], Parameter] = {}
        for given in sequence(level.get("parameters")):
            node = mapping(references.follow(given))
            place, name = text(node.get("in")), node.get("name")
            if isinstance(name, str) and name:
                key = name.casefold() if place == "header" else name
                own.setdefault((place, key), Parameter(place, name, node))
        found |= own
    return [parameter for parameter in found.values() if not _is_ignored(parameter)]


def _is_ignored(parameter: Parameter) -> bool:
    return (
        parameter.place == "header" and parameter.name.casefold() in DESCRIBED_ELSEWHERE | OF_THE_CONNECTION
    )


def add_parameters(
    parameters: Iterable[Parameter],
    arguments: Arguments,
    references: References,
    findings: Findings,
    operation: str,
) -> list[dict[str, Any]]:
    """The `parameters` of a request template. Raises `LeaveOut` when a required one cannot be sent."""
    order = {place: index for index, place in enumerate(PLACES)}
    placed = []
    for parameter in sorted(parameters, key=lambda one: order.get(one.place, len(order))):
        why = _obstacle(parameter)
        if not why:
            placed.append(_add(parameter, arguments, references))
        elif parameter.is_required:
            raise LeaveOut(why)
        else:
            findings.add(f"{operation}, parameter {parameter.name[:100]}", why)
    return placed


def _obstacle(parameter: Parameter) -> str:
    if parameter.place not in PLACES:
        where = parameter.place[:40] or "nowhere"
        return (
            f"Its parameter `{parameter.name[:100]}` is `in: {where}`, which OpenAPI 3.0 and 3.1 do not know."
        )
    if len(parameter.name) > MAX_LENGTH:
        return f"Its parameter `{parameter.name[:40]}…` has a name longer than {MAX_LENGTH} characters."
    if parameter.place in ("header", "cookie") and not is_token(parameter.name):
        return f"`{parameter.name[:100]}` cannot be the name of a {parameter.place}."
    return ""


def _add(parameter: Parameter, arguments: Arguments, references: References) -> dict[str, Any]:
    schema, content_type = _schema_of(parameter.node, references)
    name = arguments.add(parameter.name, parameter.place, schema, required=parameter.is_required)
    placed = {"in": parameter.place, "name": parameter.name, "argument": name}
    if content_type:
        return placed | {"content_type": content_type}
    return placed | _style(parameter)


def _schema_of(node: dict[str, Any], references: References) -> tuple[object, str]:
    """The schema with the parameter's own texts, and `application/json` when the value is sent as JSON."""
    content_type, schema = "", node.get("schema")
    for media_type, media in named(node.get("content")):
        is_json = "json" in media_type.lower()
        content_type = "application/json" if is_json else ""
        schema = mapping(references.follow(media)).get("schema") if is_json else {"type": "string"}
        break
    if not isinstance(schema, dict):
        schema = {key: node[key] for key in _LOOSE if key in node} or {"type": "string"}
    return _with_texts(schema, node), content_type


def _with_texts(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    texts: dict[str, Any] = {key: node[key] for key in ("description", "deprecated") if node.get(key)}
    examples = [mapping(example).get("value") for example in mapping(node.get("examples")).values()]
    if "example" in node:
        texts["examples"] = [node["example"]]
    elif kept := [example for example in examples if example is not None]:
        texts["examples"] = kept
    return {**schema, **texts}


def _style(parameter: Parameter) -> dict[str, Any]:
    """Only what differs from the default of the place."""
    allowed = _STYLES[parameter.place]
    given = parameter.node.get("style")
    style = given if given in allowed else allowed[0]
    result: dict[str, Any] = {} if style == allowed[0] else {"style": style}
    explode = parameter.node.get("explode")
    if isinstance(explode, bool) and explode != (style == "form") and style != "deepObject":
        result["explode"] = explode
    return result
