"""A tool's request template: everything is parsed here once, a call only encodes its arguments."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
from multidict import CIMultiDict
from yarl import URL

from servers.runtimes import hops
from servers.runtimes.http.addresses import Address, compile_address
from servers.runtimes.http.bodies import BodyEncoder, compile_body
from servers.runtimes.http.definition import Constant, HttpDefinition, Parameter
from servers.runtimes.http.placing import (
    ArgumentRefused,
    Encoder,
    cookie_text,
    encoder,
    escaped,
    header_text,
    is_token,
)
from servers.runtimes.http.values import NotReady, Values
from servers.runtimes.patience import PatientHeaders

_ACCEPT = {
    "auto": "application/json, text/*;q=0.9, */*;q=0.8",
    "json": "application/json, */*;q=0.5",
    "text": "text/*, */*;q=0.8",
    "binary": "*/*",
}
# They frame or route the message: one of them from a template could smuggle a second request, or hide a circle.
_RESERVED_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        hops.HEADER.lower(),
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Request(msgspec.Struct, frozen=True):
    url: URL
    headers: CIMultiDict[str]
    body: bytes | None


class RequestTemplate:
    """`hidden` holds what must be shown to nobody: the secrets in it and what was derived from them."""

    def __init__(self, definition: HttpDefinition, values: Values) -> None:
        """Raise ValueError for a malformed definition, NotReady for missing or unfit variables and secrets."""
        self.method = definition.method
        self._address = compile_address(definition.url, definition.parameters, values)
        self._query = _placed(definition.parameters, "query")
        self._cookies = _placed(definition.parameters, "cookie")
        self._header_parameters = [
            (parameter.argument, _header_name(parameter.name), encoder(parameter))
            for parameter in definition.parameters
            if parameter.place == "header"
        ]
        self._body: BodyEncoder | None = compile_body(definition.body)
        self._fixed_query = _constant_query(self._address, definition.constants, values)
        self._fixed_cookies = _constant_cookies(definition.constants, values)
        fixed_headers, derived = _constant_headers(definition, values)
        values.check()
        if self._fixed_cookies and not self._cookies:
            fixed_headers["Cookie"] = "; ".join(self._fixed_cookies)
        _check_headers(fixed_headers)
        self._fixed_headers = PatientHeaders(fixed_headers)
        self.origin = self._address.origin
        self.hidden = (*derived, *values.used_secrets.values())
        self._fixed_url = self._url({}) if self._address.is_fixed and not self._query else None

    def render(self, arguments: Mapping[str, Any], seconds: float = 0.0) -> Request:
        """With `seconds` the upstream is told how long its answer is waited for.

        Raise ArgumentRefused for values that cannot stand where they belong.
        """
        try:
            headers = self._headers(arguments, seconds)
            body = self._body(arguments) if self._body is not None else None
            url = self._fixed_url or self._url(arguments)
        except UnicodeError:
            raise ArgumentRefused("An argument holds half a character; send whole Unicode text.") from None
        if body is None:
            return Request(url, headers, None)
        if "Content-Type" not in headers:
            headers = headers.copy()
            headers["Content-Type"] = body[1]
        return Request(url, headers, body[0])

    def _url(self, arguments: Mapping[str, Any]) -> URL:
        return self._address.url(arguments, _encoded(self._query, arguments, "&", self._fixed_query))

    def _headers(self, arguments: Mapping[str, Any], seconds: float) -> CIMultiDict[str]:
        fixed = self._fixed_headers.within(seconds)
        if not self._header_parameters and not self._cookies:
            return fixed  # shared by all calls, and never changed
        headers = fixed.copy()
        for argument, name, encode in self._header_parameters:
            value = arguments.get(argument)
            if value is not None:
                headers[name] = encode(value)
        if self._cookies and (cookies := _encoded(self._cookies, arguments, "; ", self._fixed_cookies)):
            headers["Cookie"] = cookies
        return headers


def _encoded(
    parameters: list[tuple[str, Encoder]], arguments: Mapping[str, Any], between: str, fixed: list[str]
) -> str:
    if not parameters:
        return between.join(fixed)
    given = [encode(arguments[argument]) for argument, encode in parameters if argument in arguments]
    return between.join([*fixed, *filter(None, given)])


def _placed(parameters: list[Parameter], place: str) -> list[tuple[str, Encoder]]:
    chosen = [parameter for parameter in parameters if parameter.place == place]
    for parameter in chosen:
        if place == "cookie" and not is_token(parameter.name):
            raise ValueError(f"{parameter.name!r} cannot be the name of a cookie.")
    return [(parameter.argument, encoder(parameter)) for parameter in chosen]


def _constant_query(address: Address, constants: list[Constant], values: Values) -> list[str]:
    pairs = [
        f"{escaped(constant.name)}={escaped(values.fill(constant.value))}"
        for constant in constants
        if constant.place == "query"
    ]
    return [address.query, *pairs] if address.query else pairs


def _constant_cookies(constants: list[Constant], values: Values) -> list[str]:
    chosen = [constant for constant in constants if constant.place == "cookie"]
    for constant in chosen:
        if not is_token(constant.name):
            raise ValueError(f"{constant.name!r} cannot be the name of a cookie.")
    return [f"{constant.name}={cookie_text(values.fill(constant.value))}" for constant in chosen]


def _constant_headers(definition: HttpDefinition, values: Values) -> tuple[CIMultiDict[str], list[str]]:
    """The headers of every call, and what in them is derived from secrets."""
    headers = CIMultiDict({"Accept": _ACCEPT[definition.response.kind], "User-Agent": "Mooring"} | hops.FIRST)
    derived: list[str] = []
    if definition.basic_auth is not None:
        username, password = (
            values.fill(text) for text in (definition.basic_auth.username, definition.basic_auth.password)
        )
        token = base64.b64encode(f"{username}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {token}"
        derived.append(token)
    for constant in definition.constants:
        if constant.place == "header":
            headers[_header_name(constant.name)] = values.fill(constant.value).strip(" \t\r\n")
    return headers, derived


def _header_name(name: str) -> str:
    if not is_token(name):
        raise ValueError(f"{name!r} cannot be the name of a header.")
    if name.lower() in _RESERVED_HEADERS:
        raise ValueError(f"The header {name} is written by Mooring itself; remove it.")
    if name.lower() == "cookie":
        raise ValueError("Send cookies as parameters or constants in `cookie`, not as a header.")
    return name


def _check_headers(headers: CIMultiDict[str]) -> None:
    """Only here, for the value of a secret decides; a template alone is seldom wrong."""
    for name, value in headers.items():
        if header_text(value) is None:
            raise NotReady(
                "value_invalid",
                f"The header {name} would hold a line break or characters that a header cannot carry. "
                "Correct the secret or variable in it.",
            )
