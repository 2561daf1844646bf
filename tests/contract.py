"""An origin that holds its callers to an OpenAPI 3.0 document.

Written from the specifications alone, with none of the product's code, so that what the product imports and sends is
judged by somebody else. `Contract` says what a request means by the document; `contracted` serves one.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

import yaml
from aiohttp import web
from jsonschema import Draft4Validator, FormatChecker, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.jsonschema import DRAFT4

from tests.origin import PNG, own_loop

Given = dict[str, dict[str, Any]]
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# What a document says of these headers is to be ignored, or is HTTP's own affair.
_NOT_PARAMETERS = {"accept", "content-type", "authorization", "content-length"}
_DEFAULT_STYLES = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}


class Breach(Exception):
    """A request that the document does not allow; the text says why."""


class _CoreLoader(yaml.SafeLoader):
    """YAML 1.2, where NO is a word and 2026-01-01 a text."""


_CoreLoader.yaml_implicit_resolvers = {
    letter: [pair for pair in pairs if pair[0].rpartition(":")[2] not in {"bool", "timestamp"}]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))


# ---- schemas ---------------------------------------------------------------------------------------------


def _unless_null(keyword: str) -> Callable[..., Iterator[ValidationError]]:
    usual = Draft4Validator.VALIDATORS[keyword]

    def check(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
        if not (value is None and schema.get("nullable")):
            yield from usual(validator, wanted, value, schema)

    return check


def _required(_validator: Any, names: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    """What only answers hold is not asked of a request."""
    for name in names if isinstance(value, dict) else ():
        if name not in value and not schema.get("properties", {}).get(name, {}).get("readOnly"):
            yield ValidationError(f"{name} is missing")


def _read_only(_validator: Any, is_read_only: Any, _value: Any, _schema: Any) -> Iterator[ValidationError]:
    if is_read_only:
        yield ValidationError("what only answers hold was sent")


_Validator = extend(
    Draft4Validator,
    {
        "type": _unless_null("type"),
        "enum": _unless_null("enum"),
        "required": _required,
        "readOnly": _read_only,
    },
)


# ---- a request, by the document --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operation:
    """`key` is as in `GET /ships`; `prefix` the path of its server's URL."""

    key: str
    prefix: str
    pattern: re.Pattern[str]
    constants: list[tuple[str, str]]
    parameters: list[dict[str, Any]]
    body: dict[str, Any]
    security: list[dict[str, Any]]
    responses: dict[str, Any]


class Contract:
    """`credentials` are the texts that each security scheme of the document expects."""

    def __init__(self, path: Path, credentials: Mapping[str, str]) -> None:
        self.document: dict[str, Any] = yaml.load(path.read_text(), _CoreLoader)
        self._registry: Registry[Any] = Registry().with_resource(
            "doc:", DRAFT4.create_resource(self.document)
        )
        self._credentials = credentials
        self.operations = [
            self._operation(path, item, method)
            for path, item in self.document["paths"].items()
            if not path.startswith("x-")
            for method in _METHODS
            if method in item
        ]

    def _operation(self, path: str, item: dict[str, Any], method: str) -> Operation:
        found = item[method]
        bare = path.partition("#")[0]
        bare, _, query = bare.partition("?")
        names = re.findall(r"{([^}]*)}", bare)
        parts = [re.escape(part) for part in re.split(r"{[^}]*}", bare)]
        parameters = {
            (one["in"], one["name"]): one
            for one in map(self.resolved, [*item.get("parameters", []), *found.get("parameters", [])])
            if not (one["in"] == "header" and one["name"].lower() in _NOT_PARAMETERS)
        }
        for name in names:  # one that nobody described is a text
            parameters.setdefault(("path", name), {"in": "path", "name": name, "schema": {"type": "string"}})
        servers = found.get("servers") or item.get("servers") or self.document["servers"]
        return Operation(
            f"{method.upper()} {path}",
            _path_of(servers[0]),
            re.compile("([^/]+)".join(parts)),
            parse_qsl(query),
            list(parameters.values()),
            self.resolved(found.get("requestBody", {})),
            found.get("security", self.document.get("security", [])),
            {str(status): self.resolved(answer) for status, answer in found["responses"].items()},
        )

    def resolved(self, found: Any) -> Any:
        while isinstance(found, dict) and "$ref" in found:
            found = self._registry.resolver("doc:").lookup(found["$ref"]).contents
        return found

    def check(self, value: Any, schema: Any, what: str) -> None:
        validator = _Validator(
            _absolute(schema), registry=self._registry, format_checker=FormatChecker(["uuid", "date"])
        )
        for error in validator.iter_errors(value):
            raise Breach(f"{what} is {value!r}: {error.message}")

    def understood(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[str, Given]:
        """The key of the operation, and what was given to it: place → name → value. Raises `Breach`."""
        path, _, query = url.partition("?")
        operation, segments = self._matching(method, path, query)
        self._check_security(operation, headers)
        given: Given = {}
        sources = {
            "path": segments,
            "query": _pairs(query, "&", operation.constants),
            "header": headers,
            "cookie": _pairs(headers.get("Cookie", ""), "; ", []),
        }
        for parameter in operation.parameters:
            place, name = parameter["in"], parameter["name"]
            value = self._read(parameter, sources[place])
            if value is not None:
                given.setdefault(place, {})[name] = value
            elif parameter.get("required"):
                raise Breach(f"{name} is missing in the {place}")
        for place in ("query", "cookie"):
            if sources[place]:
                raise Breach(f"the {place} holds what nobody asked for: {sources[place]}")
        if operation.body or body:
            given |= self._read_body(operation.body, headers.get("Content-Type", ""), body)
        return operation.key, given

    def _matching(self, method: str, path: str, query: str) -> tuple[Operation, dict[str, str]]:
        for operation in self.operations:
            if not operation.key.startswith(f"{method} ") or not path.startswith(f"{operation.prefix}/"):
                continue
            found = operation.pattern.fullmatch(path.removeprefix(operation.prefix))
            if found and all(pair in parse_qsl(query) for pair in operation.constants):
                names = re.findall(r"{([^}]*)}", operation.key)
                return operation, dict(zip(names, found.groups(), strict=True))
        raise Breach(f"no operation is at {method} {path}?{query}")

    def _check_security(self, operation: Operation, headers: Mapping[str, str]) -> None:
        schemes = self.document.get("components", {}).get("securitySchemes", {})
        ways = [_credential(schemes[name], self._credentials.get(name, "")) for name in self._credentials]
        sent = [(name, headers[name]) for name, _ in dict.fromkeys(ways) if name in headers]
        wanted = [
            [_credential(schemes[name], self._credentials[name]) for name in way]
            for way in operation.security
            if set(way) <= set(self._credentials)
        ] or [[]]
        if sorted(set(sent)) not in [sorted(way) for way in wanted]:
            raise Breach(f"the credentials are {sent}, not one of {wanted}")

    # ---- parameters

    def _read(self, parameter: dict[str, Any], source: Any) -> Any:
        """The value of a parameter, or None. What is read of a query or a cookie is taken out of `source`."""
        place, name = parameter["in"], parameter["name"]
        if "content" in parameter:
            ((_, media),) = parameter["content"].items()
            text = _taken(source, name) if isinstance(source, list) else [source.get(name)]
            value = json.loads(unquote_plus(text[0])) if text and text[0] is not None else None
            schema = media["schema"]
        else:
            schema = parameter["schema"]
            value = self._decoded(parameter, source)
        if value is not None:
            self.check(value, schema, f"{name} in the {place}")
        return value

    def _decoded(self, parameter: dict[str, Any], source: Any) -> Any:
        place, name, schema = parameter["in"], parameter["name"], self.resolved(parameter["schema"])
        style = parameter.get("style", _DEFAULT_STYLES[place])
        explode = parameter.get("explode", style == "form")
        kind, texts = schema.get("type"), list[str]()
        if place in {"query", "cookie"}:
            if kind == "object" and (style == "deepObject" or explode):
                shape = f"{name}[{{}}]" if style == "deepObject" else "{}"
                found = {one: _taken(source, shape.format(one)) for one in schema["properties"]}
                return self._object({one: texts[0] for one, texts in found.items() if texts}, schema) or None
            texts = _taken(source, name)
            if not texts:
                return None
            if kind == "array" and explode:
                return [self._scalar(text, schema["items"]) for text in texts]
            if len(texts) > 1:
                raise Breach(f"{name} is there {len(texts)} times")
            if kind not in {"array", "object"}:
                return self._scalar(texts[0], schema)
            between = {"form": ",|%2C", "spaceDelimited": "%20|\\+", "pipeDelimited": "\\||%7C"}[style]
            return self._items(re.split(between, texts[0]), schema)
        text = source.get(name)
        if text is None:
            return None
        return self._expanded(name, text, style, explode, schema)

    def _expanded(self, name: str, text: str, style: str, explode: bool, schema: Any) -> Any:
        """A path segment or a header."""
        between = ","
        if style == "label":
            if not text.startswith("."):
                raise Breach(f"{name} is {text!r}, without its dot")
            text, between = text[1:], "." if explode else ","
        elif style == "matrix":
            if not text.startswith(";"):
                raise Breach(f"{name} is {text!r}, without its semicolon")
            text = text[1:]
            if explode and schema.get("type") == "object":
                between = ";"
            elif explode and schema.get("type") == "array":
                text, between = text.replace(f"{name}=", ""), ";"
            else:
                text = text.removeprefix(f"{name}=")
        if schema.get("type") not in {"array", "object"}:
            return self._scalar(text, schema)
        parts = [part.strip() for part in text.split(between)]
        if schema["type"] == "object" and explode:
            return self._object(dict(part.split("=", 1) for part in parts), schema)
        return self._items(parts, schema)

    def _items(self, texts: list[str], schema: Any) -> Any:
        if schema["type"] == "array":
            return [self._scalar(text, schema["items"]) for text in texts]
        return self._object(dict(zip(texts[::2], texts[1::2], strict=True)), schema)

    def _object(self, texts: dict[str, str], schema: Any) -> dict[str, Any]:
        kinds = schema.get("properties", {})
        return {unquote(name): self._scalar(text, kinds[unquote(name)]) for name, text in texts.items()}

    def _scalar(self, text: str, schema: Any) -> Any:
        text = unquote_plus(text)
        if self.resolved(schema).get("type") in {"integer", "number", "boolean"}:
            try:
                return json.loads(text)
            except ValueError:
                raise Breach(f"{text!r} is no {schema['type']}") from None
        return text

    # ---- bodies

    def _read_body(self, declared: dict[str, Any], content_type: str, body: bytes) -> Given:
        media = content_type.partition(";")[0]
        if not body and not content_type:
            if declared.get("required"):
                raise Breach("the body is missing")
            return {}
        if media not in declared.get("content", {}):
            raise Breach(f"a body of type {content_type!r} was sent")
        schema = declared["content"][media].get("schema")
        if media.endswith("json"):
            value = json.loads(body)
        elif media == "application/x-www-form-urlencoded":
            value = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
        elif media == "multipart/form-data":
            value = self._parts(content_type, body, self.resolved(schema))
        elif media.startswith("text/"):
            value = body.decode()
        else:
            return {"body": {"": body}}
        self.check(_as_text(value), schema, "the body")
        return {"body": value if isinstance(value, dict) else {"": value}}

    def _parts(self, content_type: str, body: bytes, schema: Any) -> dict[str, Any]:
        """Files are bytes and must say that they are files."""
        message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
        found: dict[str, Any] = {}
        for part in message.iter_parts():
            name = str(part.get_param("name", header="content-disposition"))
            kind = schema["properties"][name]
            is_file = kind.get("items", kind).get("format") == "binary"
            if is_file != (part.get_filename() is not None):
                raise Breach(f"{name} is {'no ' if is_file else 'a '}file")
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            value = content if is_file else content.decode()
            found[name] = [*found.get(name, []), value] if kind["type"] == "array" else value
        return found


def _path_of(server: dict[str, Any]) -> str:
    url = server["url"]
    for name, variable in server.get("variables", {}).items():
        url = url.replace(f"{{{name}}}", variable["default"])
    return str(urlsplit(url).path.rstrip("/"))


def _absolute(schema: Any) -> Any:
    """The same with references that begin at the document."""
    if isinstance(schema, dict):
        return {
            key: f"doc:{value}" if key == "$ref" and isinstance(value, str) else _absolute(value)
            for key, value in schema.items()
        }
    return [_absolute(one) for one in schema] if isinstance(schema, list) else schema


def _credential(scheme: dict[str, Any], text: str) -> tuple[str, str]:
    """The header that carries it."""
    if scheme["type"] == "apiKey":
        return str(scheme["name"]), text
    if scheme.get("scheme") == "basic":
        return "Authorization", "Basic " + base64.b64encode(text.encode()).decode()
    return "Authorization", f"Bearer {text}"


def _pairs(text: str, between: str, without: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Names, and values that are still encoded."""
    pairs = [part.partition("=")[::2] for part in text.split(between) if part]
    return [
        (unquote_plus(name), value) for name, value in pairs if (name, unquote_plus(value)) not in without
    ]


def _taken(source: list[tuple[str, str]], name: str) -> list[str]:
    found = [value for known, value in source if known == name]
    source[:] = [pair for pair in source if pair[0] != name]
    return found


def _as_text(value: Any) -> Any:
    """Schemas know files as texts."""
    if isinstance(value, dict):
        return {name: _as_text(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return value.decode("latin-1") if isinstance(value, bytes) else value


# ---- the origin ------------------------------------------------------------------------------------------

_ANSWERS = {"application/pdf": b"%PDF-1.7", "image/png": PNG, "text/plain": b"received"}


class Origin:
    """`understood` are the operations that were asked for and what they were given."""

    def __init__(self, contract: Contract, answers: Mapping[str, Any]) -> None:
        self._contract = contract
        self._answers = answers
        self.understood: list[tuple[str, Given]] = []

    async def meet(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            key, given = self._contract.understood(request.method, request.raw_path, request.headers, body)
        except Breach as breach:
            return web.Response(status=422, text=str(breach))
        self.understood.append((key, given))
        return self._answer(next(one for one in self._contract.operations if one.key == key))

    def _answer(self, operation: Operation) -> web.Response:
        status, declared = next(iter(operation.responses.items()))
        media = next(iter(declared.get("content", {})), "")
        if media.endswith("json"):
            return web.json_response(self._answers[operation.key], status=int(status))
        return web.Response(
            status=int(status), body=_ANSWERS.get(media, b""), content_type=media or "text/plain"
        )


@contextmanager
def contracted(contract: Contract, answers: Mapping[str, Any]) -> Iterator[tuple[Origin, str]]:
    """The origin and its address. `answers` are what operations that answer with JSON say, by their keys."""
    origin = Origin(contract, answers)
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", origin.meet)
    with own_loop() as do:
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        do(runner.setup())
        try:
            do(web.TCPSite(runner, "127.0.0.1", 0).start())
            yield origin, f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            do(runner.cleanup())
