"""The URL of a tool: parsed once, so that a call only fills in its path parameters."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from yarl import URL

from servers.runtimes.http.definition import Parameter
from servers.runtimes.http.placing import ArgumentRefused, Encoder, encoder, escaped
from servers.runtimes.http.values import NotReady, Values

_BRACES = re.compile(r"\{(secret:)?([^{}]+)\}")
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f\\]")


class Address:
    """`base` holds scheme and host; `path` fills the pieces between the path parameters."""

    def __init__(self, base: URL, pieces: list[str], slots: list[tuple[str, Encoder]], query: str) -> None:
        self.origin = str(base)
        self.query = query
        self._scheme = base.scheme
        self._authority = base.raw_authority
        self._pieces = pieces
        self._slots = slots

    @property
    def is_fixed(self) -> bool:
        return not self._slots

    def url(self, arguments: Mapping[str, Any], query: str) -> URL:
        """Put together from finished parts: nothing is parsed or encoded again."""
        return URL.build(
            scheme=self._scheme,
            authority=self._authority,
            path=self.path(arguments),
            query_string=query,
            encoded=True,
        )

    def path(self, arguments: Mapping[str, Any]) -> str:
        """The path with its arguments. Raise ArgumentRefused for a missing one or one that would climb."""
        parts = [self._pieces[0]]
        for index, (argument, encode) in enumerate(self._slots, 1):
            parts.append(encode(arguments.get(argument)))
            parts.append(self._pieces[index])
        path = "".join(parts)
        # Two arguments of a dot each, side by side, make what neither of them is.
        if "/." in path and not {".", ".."}.isdisjoint(path.split("/")):
            raise ArgumentRefused("The arguments make the path segments . or ..; change them.")
        return path


def compile_address(template: str, parameters: list[Parameter], values: Values) -> Address:
    """Raise ValueError for a malformed template; NotReady when a variable's value spoils the URL."""
    marked = _Marked(
        template, {parameter.name: parameter for parameter in parameters if parameter.place == "path"}
    )
    text = marked.filled(values)
    if values.missing_variables or values.missing_secrets:
        return Address(URL(), [""], [], "")
    try:
        return marked.cut(_parsed(text))
    except ValueError as error:
        if marked.has_variables:
            raise NotReady("variable_invalid", f"With the variables of this channel: {error}") from None
        raise


class _Marked:
    """A URL with a random word in place of each path parameter and secret, which parsing leaves as it is."""

    def __init__(self, template: str, slots: Mapping[str, Parameter]) -> None:
        self._template = template
        self._slots = slots
        self._stem = f"z{secrets.token_hex(8)}"
        self._parameters: list[tuple[str, Parameter]] = []
        self._secrets: list[tuple[str, str]] = []
        self.has_variables = False

    def filled(self, values: Values) -> str:
        def replace(match: re.Match[str]) -> str:
            word = f"{self._stem}{match.start():05}"
            if match[1]:
                self._secrets.append((word, escaped(values.secret(match[2]))))
            elif match[2] in self._slots:
                self._parameters.append((word, self._slots[match[2]]))
            else:
                self.has_variables = True
                return values.variable(match[2])
            return word

        text = _BRACES.sub(replace, self._template)
        absent = set(self._slots) - {parameter.name for _, parameter in self._parameters}
        if absent:
            name = min(absent)
            raise ValueError(f"The URL has no place for the path parameter {name}; write {{{name}}} in it.")
        return text

    def cut(self, url: URL) -> Address:
        origin, path, query = url.origin(), url.raw_path, url.raw_query_string
        if self._stem in str(origin):
            raise ValueError("Only variables may be a part of the host, no path parameters and no secrets.")
        for word, secret in self._secrets:
            path, query = path.replace(word, secret), query.replace(word, secret)
        pieces: list[str] = []
        for word, parameter in self._parameters:
            piece, found, path = path.partition(word)
            if not found:
                raise ValueError(f"Move {parameter.name} out of the query; use a query parameter there.")
            pieces.append(piece)
        encoders = [(parameter.argument, encoder(parameter)) for _, parameter in self._parameters]
        return Address(origin, [*pieces, path], encoders, query)


def _parsed(text: str) -> URL:
    if _NOT_IN_URLS.search(text):
        raise ValueError("A URL holds no spaces, line breaks or backslashes.")
    if not {".", ".."}.isdisjoint(re.split(r"[/?#]", text.lower().replace("%2e", "."))):
        raise ValueError("A URL holds no path segments . or ..; write the path they lead to.")
    try:
        url = URL(text)
        host = url.host
    except ValueError:
        raise ValueError(
            "The URL is malformed; write one such as https://api.example.com/v1/things."
        ) from None
    if url.scheme not in {"http", "https"} or not host:
        raise ValueError("The URL must start with https:// and name a host.")
    if url.raw_user is not None or url.raw_password is not None:
        raise ValueError("The URL must not hold a user name or password; use basic_auth.")
    if url.raw_fragment:
        raise ValueError("The URL must not hold a fragment (#…); it is never sent.")
    return url
