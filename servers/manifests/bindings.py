"""Whether a tool's HTTP request can be made at all, tried with stand-ins for what only a channel knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from servers.runtimes.http.addresses import compile_address
from servers.runtimes.http.definition import HttpDefinition, parse
from servers.runtimes.http.request import RequestTemplate
from servers.runtimes.http.values import NotReady, Values

Json = dict[str, Any]
Problem = tuple[str, str]
_HOST = "https://stand-in.example"
_COMBINING = ("$ref", "allOf", "anyOf", "oneOf", "if", "$dynamicRef", "patternProperties", "dependentSchemas")


def http_problems(tool: Json, variables: Mapping[str, Any], secrets: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of the tool's `http`, with their places in the tool."""
    try:
        definition = parse(tool["http"])
    except ValueError as error:
        yield "http", str(error)
        return
    yield from _request_problems(definition, variables, secrets)
    yield from _argument_problems(definition, tool["input_schema"])
    yield from _credential_problems(definition)


def _request_problems(
    definition: HttpDefinition, variables: Mapping[str, Any], secrets: Mapping[str, Any]
) -> Iterator[Problem]:
    defaults = {name: about.get("default", "") for name, about in variables.items()}
    known = {name: default or _stand_in(name, definition.url) for name, default in defaults.items()}
    values = Values(known.get, dict.fromkeys(secrets, "stand-in").get)
    # Of variables that all have defaults a refusal is true; what a stand-in spoils proves nothing.
    refusal = _refusal(definition, values, believed=all(defaults.values()))
    for name in dict.fromkeys(values.missing_variables):
        yield "http", f"It names {{{name}}}, which is neither a variable of the server nor a path parameter."
    for name in dict.fromkeys(values.missing_secrets):
        yield "http", f"It names the secret {name!r}. Declare it under secrets."
    if refusal and not values.missing_variables and not values.missing_secrets:
        yield refusal


def placeholder_problems(
    place: str, text: str, variables: Mapping[str, Any], secrets: Mapping[str, Any]
) -> Iterator[Problem]:
    """Variables and secrets that a text names and the server does not have."""
    values = Values(dict.fromkeys(variables, "stand-in").get, dict.fromkeys(secrets, "stand-in").get)
    values.fill(text)
    for name in dict.fromkeys(values.missing_variables):
        yield place, f"It names {{{name}}}, which is not a variable of the server."
    for name in dict.fromkeys(values.missing_secrets):
        yield place, f"It names the secret {name!r}. Declare it under secrets."


def _refusal(definition: HttpDefinition, values: Values, *, believed: bool) -> Problem | None:
    place = "http.url"
    try:
        compile_address(definition.url, definition.parameters, values)
        place = "http"
        RequestTemplate(definition, values)
    except NotReady as error:
        return (place, error.sentence) if believed else None
    except ValueError as error:
        return place, str(error)
    return None


def _stand_in(name: str, url: str) -> str:
    return _HOST if url.startswith(f"{{{name}}}") else "stand-in"


def _argument_problems(definition: HttpDefinition, schema: Json) -> Iterator[Problem]:
    """Every argument the request takes must be one the caller is told about."""
    if any(word in schema for word in _COMBINING):
        return
    known = schema.get("properties")
    for argument in _arguments(definition):
        if not isinstance(known, dict) or argument not in known:
            yield (
                "input_schema",
                f"The request takes the argument {argument!r}, which is not a property here.",
            )


def _arguments(definition: HttpDefinition) -> list[str]:
    names = [parameter.argument for parameter in definition.parameters]
    if definition.body is not None:
        names += [definition.body.argument] if definition.body.argument else []
        names += (definition.body.fields or {}).values()
    return list(dict.fromkeys(names))


def _credential_problems(definition: HttpDefinition) -> Iterator[Problem]:
    """A credential written out would be in every version, export and audit event."""
    for index, constant in enumerate(definition.constants):
        is_credential = constant.place == "header" and constant.name.lower() == "authorization"
        if is_credential and "{secret:" not in constant.value:
            yield (
                f"http.constants[{index}].value",
                "Keep the credential in a secret: write {secret:token} for it.",
            )
    auth = definition.basic_auth
    if auth is not None and "{secret:" not in auth.username + auth.password:
        yield "http.basic_auth", "Keep the credential in a secret: write {secret:password} for it."
