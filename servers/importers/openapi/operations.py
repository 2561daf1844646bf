"""One operation → one tool."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from servers.importers.openapi.addresses import Address
from servers.importers.openapi.arguments import Arguments
from servers.importers.openapi.bodies import add_body
from servers.importers.openapi.compiling import usable
from servers.importers.openapi.findings import Findings
from servers.importers.openapi.naming import cleaned
from servers.importers.openapi.parameters import Parameter, add_parameters, parameters_of
from servers.importers.openapi.paths import Path, read_path
from servers.importers.openapi.reading import shorten, text
from servers.importers.openapi.references import References
from servers.importers.openapi.responses import answer_of
from servers.importers.openapi.schemas import Schemas
from servers.importers.openapi.security import Authentication, Security

MAX_TITLE = 100
MAX_DESCRIPTION = 4_000
_ODD = re.compile(r"^[^A-Za-z]|[^A-Za-z0-9_-]")  # what a template's placeholders cannot hold, and more
_SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Site:
    """Where in the document an operation stands. `item` is its path's entry."""

    method: str
    path: str
    item: dict[str, Any]
    operation: dict[str, Any]
    address: Address

    @property
    def key(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Workshop:
    """What all operations of one document share."""

    references: References
    inputs: Schemas
    outputs: Schemas
    security: Security
    findings: Findings
    variables: frozenset[str]
    input_limit: int
    output_limit: int


def tool_of(site: Site, name: str, variable: str, workshop: Workshop) -> dict[str, Any]:
    """The tool in the manifest's shape. `variable` holds the base URL. Raises `LeaveOut`."""
    request, input_schema = _request(site, variable, workshop)
    answer = answer_of(
        site.operation,
        workshop.outputs,
        workshop.references,
        workshop.findings,
        site.key,
        limit=workshop.output_limit,
    )
    if answer.read_as:
        request["response"] = {"as": answer.read_as}
    title = shorten(_line(site.operation.get("summary")), MAX_TITLE)
    return {
        "name": name,
        **({"title": title} if title else {}),
        "description": _description(site),
        "input_schema": input_schema,
        **({"output_schema": answer.schema} if answer.schema else {}),
        "annotations": _annotations(site.method),
        "http": request,
    }


def _request(site: Site, variable: str, workshop: Workshop) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request template and the schema of its arguments."""
    references, findings = workshop.references, workshop.findings
    arguments = Arguments(workshop.inputs.conversion())
    authentication = workshop.security.authentication(site.operation)
    path = read_path(site.path)
    given = parameters_of(site.item, site.operation, references)
    parameters = list(_needed(given, path, authentication))
    placed = add_parameters(parameters, arguments, references, findings, site.key)
    body = _body(site, arguments, workshop)
    template, placed = _renamed(path, placed, workshop.variables)
    request: dict[str, Any] = {"method": site.method, "url": f"{{{variable}}}{template}"}
    if placed:
        request["parameters"] = placed
    if constants := [*_fixed_query(path), *authentication.constants]:
        request["constants"] = constants
    if authentication.basic_auth:
        request["basic_auth"] = authentication.basic_auth
    if body:
        request["body"] = body
    return request, _input_schema(arguments, workshop, site.key)


def _needed(given: list[Parameter], path: Path, authentication: Authentication) -> Iterator[Parameter]:
    """Without what a secret fills or the path does not hold; with what the path holds and nobody described."""
    for parameter in given:
        if (parameter.place, parameter.name.casefold()) in authentication.covers:
            continue
        if parameter.place != "path" or parameter.name in path.names:
            yield parameter
    described = {parameter.name for parameter in given if parameter.place == "path"}
    for name in path.names:
        if name not in described:
            yield Parameter("path", name, {"schema": {"type": "string"}})


def _renamed(
    path: Path, placed: list[dict[str, Any]], variables: frozenset[str]
) -> tuple[str, list[dict[str, Any]]]:
    """Names in braces never reach the wire (but in matrix style), so odd ones may change: `{a b}` → `{a_b}`."""
    template, result = path.template, []
    taken = set(path.names) | variables
    for parameter in placed:
        name = parameter["name"]
        if parameter["in"] == "path" and (name in variables or _ODD.search(name)):
            new = f"path_{cleaned(name)}"
            while new in taken:
                new += "_"
            taken.add(new)
            template = template.replace(f"{{{name}}}", f"{{{new}}}")
            parameter = {**parameter, "name": new}
        result.append(parameter)
    return template, result


def _fixed_query(path: Path) -> Iterator[dict[str, str]]:
    for name, value in path.query:
        yield {"in": "query", "name": name, "value": value}


def _body(site: Site, arguments: Arguments, workshop: Workshop) -> dict[str, Any] | None:
    """A body where HTTP gives it no meaning is sent only when the document insists."""
    node = site.operation.get("requestBody")
    if node is None:
        return None
    followed = workshop.references.follow(node)
    if site.method in _SAFE and not (isinstance(followed, dict) and followed.get("required") is True):
        return None
    return add_body(followed, arguments, workshop.references, workshop.findings, site.key)


def _input_schema(arguments: Arguments, workshop: Workshop, key: str) -> dict[str, Any]:
    whole = workshop.inputs.whole(arguments.schema(), arguments.uses, limit=workshop.input_limit)
    schema = usable(whole.schema)
    if whole.was_cut or schema is not whole.schema:
        workshop.findings.count(
            "parts of large schemas",
            "They are described down to a certain depth and size; what lies deeper accepts any value.",
            key,
        )
    return schema


def _description(site: Site) -> str:
    """What a model reads to choose the tool; the title may not reach it, so the summary is in here too."""
    summary, told = _line(site.operation.get("summary")), text(site.operation.get("description"))
    parts = [told] if told.casefold().startswith(summary.rstrip(".").casefold()) else [summary, told]
    if site.operation.get("deprecated") is True:
        parts.insert(0, "Deprecated.")
    return shorten("\n\n".join(filter(None, parts)) or f"Calls {site.key}.", MAX_DESCRIPTION)


def _line(value: object) -> str:
    return " ".join(text(value).split())


def _annotations(method: str) -> dict[str, bool]:
    """What HTTP promises of the method. Of POST and PATCH it promises nothing."""
    if method in _SAFE:
        return {"readOnlyHint": True, "openWorldHint": True}
    repeatable = method in ("PUT", "DELETE")
    hints = {"readOnlyHint": False, "idempotentHint": repeatable, "openWorldHint": True}
    return hints | ({"destructiveHint": True} if method != "POST" else {})
