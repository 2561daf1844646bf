"""`servers` → the manifest's variables: where the API is, resolved, or to be set by hand."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from servers.importers.openapi.naming import Names, numbered, snake
from servers.importers.openapi.reading import mapping, sentence, sequence, shorten, text

MAIN = "base_url"
_VARIABLE = re.compile(r"\{([^{}]*)\}")
_UNUSABLE = re.compile(r"[{}\s\\\x00-\x1f\x7f]")
_MAX_URL = 1_000
_MAX_LISTED = 5


@dataclass(frozen=True)
class Address:
    """`url` is absolute without a slash at the end, or "" when the document does not say enough."""

    url: str
    written: str
    description: str = ""


def address_of(levels: Iterable[object], source_url: str | None) -> Address:
    """Of the first level (operation, path, document) that names servers, the first that speaks HTTP."""
    servers = next((found for level in levels if (found := _servers(level))), [{"url": "/"}])
    read = [(server, _resolved(server, source_url)) for server in servers]
    server, url = next(((server, url) for server, url in read if url), read[0])
    return Address(url, text(server.get("url"))[:500], _described(server, [other for _, other in read], url))


def _servers(level: object) -> list[dict[str, Any]]:
    return [server for server in sequence(level) if text(mapping(server).get("url"))]


def _resolved(server: dict[str, Any], source_url: str | None) -> str:
    """Variables take their defaults, relative addresses start at the document's own."""
    variables = mapping(server.get("variables"))
    filled = _VARIABLE.sub(lambda found: _default(variables.get(found[1])), text(server["url"]))
    if _UNUSABLE.search(filled) or len(filled) > _MAX_URL:
        return ""
    return _absolute(filled, source_url)


def _default(variable: object) -> str:
    node = mapping(variable)
    values = [node.get("default"), *sequence(node.get("enum"))]
    return next((str(value) for value in values if isinstance(value, str | int | float)), "{}")


def _absolute(url: str, source_url: str | None) -> str:
    try:
        parts = urlsplit(urljoin(source_url, url) if source_url else url)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname  # without user and password
    return urlunsplit(
        (parts.scheme, host if port is None else f"{host}:{port}", parts.path.rstrip("/"), "", "")
    )


def _described(server: dict[str, Any], urls: list[str], chosen: str) -> str:
    others = list(dict.fromkeys(url for url in urls if url and url != chosen))[:_MAX_LISTED]
    also = f"The document also names {', '.join(others)}." if others else ""
    parts = [text(server.get("description")), *_choices(mapping(server.get("variables"))), also]
    return shorten(" ".join(sentence(part) for part in parts if part), 500)


def _choices(variables: dict[str, Any]) -> Iterable[str]:
    for name, variable in list(variables.items())[:_MAX_LISTED]:
        values = [str(value) for value in sequence(mapping(variable).get("enum"))][:10]
        if len(values) > 1:
            yield f"{name} may be {', '.join(values)}."


class Addresses:
    """Names for all addresses of a document: `base_url` for the one most operations use."""

    def __init__(self, used: Iterable[Address]) -> None:
        names = Names([MAIN])
        ordered = [
            address
            for address, _ in Counter(address.url or address.written for address in used).most_common()
        ]
        self._names = {
            key: MAIN if index == 0 else names.claim(numbered(snake(f"{MAIN}_{_host(key)}")))
            for index, key in enumerate(ordered)
        }

    def name(self, address: Address) -> str:
        return self._names[address.url or address.written]


def _host(key: str) -> str:
    try:
        return urlsplit(key).hostname or key
    except ValueError:
        return key


def variable(address: Address) -> dict[str, str]:
    """The manifest's entry for an address."""
    default = {"default": address.url} if address.url else {}
    described = {"description": address.description} if address.description else {}
    return default | described
