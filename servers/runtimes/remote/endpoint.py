"""Where an upstream is and as whom it is spoken to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from multidict import CIMultiDict
from yarl import URL

from servers.runtimes import hops
from servers.runtimes.remote.bounds import ADDRESS

Transport = Literal["auto", "http", "sse"]
Headers = tuple[tuple[str, str], ...]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
# Of the transport and of MCP: made for each request. One from a definition could smuggle a second request, speak for a
# session that is not ours, or hide a circle.
_OURS = frozenset(
    "accept accept-encoding connection content-encoding content-length content-type cookie expect host keep-alive "
    "last-event-id mcp-method mcp-name mcp-protocol-version mcp-session-id origin proxy-authorization "
    "proxy-connection te trailer transfer-encoding upgrade".split()
) | {hops.HEADER.lower()}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An upstream's configuration: its address and the headers of every request, secrets in place.

    `transport` is "http" for Streamable HTTP of any revision, "sse" for HTTP+SSE of 2024-11-05, or "auto".
    Raises ValueError with a sentence that tells no value.
    """

    url: str
    headers: Headers = ()
    transport: Transport = "auto"

    def __post_init__(self) -> None:
        _check_address(self.url)
        check_headers(self.headers)

    @property
    def place(self) -> str:
        """The address without its query, for people and as the name of its `Upstream`."""
        return str(URL(self.url).with_query(None).with_fragment(None))

    @property
    def digest(self) -> str:
        """Tells configurations apart; a secret in it cannot be read back."""
        return hashlib.sha256(msgspec.json.encode([self.url, self.headers, self.transport])).hexdigest()


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a call is made. Sessions are never shared between identities that differ in anything.

    `scope` is the caller's own key, such as a principal's id, or "" where all may share; `headers` are a credential
    of this identity, and replace the endpoint's of the same name; `capabilities` is what the upstream is told that
    its client can do, as JSON. `caller` is the principal's key where the upstream is told who calls, and "" elsewhere.
    """

    scope: str = ""
    headers: Headers = ()
    capabilities: bytes = b"{}"
    caller: str = ""

    def __post_init__(self) -> None:
        check_headers(self.headers)


@dataclass(frozen=True, slots=True)
class Introduction:
    """What Mooring says of itself."""

    name: str = "Mooring"
    version: str = "0"
    as_json: dict[str, str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "as_json", {"name": self.name, "version": self.version})


def check_headers(headers: Headers) -> None:
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name[:80]!r} cannot be the name of a header.")
        if name.lower() in _OURS or name.lower().startswith("mcp-param-"):
            raise ValueError(f"The header {name} is written by Mooring itself; remove it.")
        if not _VALUE.fullmatch(value):
            raise ValueError(
                f"The header {name} would hold a line break or a character that a header cannot carry."
            )


def _check_address(url: str) -> None:
    if len(url) > ADDRESS:
        raise ValueError("The upstream's address is too long.")
    try:
        parsed = URL(url)
        fits = parsed.scheme in ("http", "https") and bool(parsed.host) and parsed.port is not None
    except ValueError:
        fits = False
    if not fits:
        raise ValueError("The upstream's address must be an http or https URL.")
    if parsed.user is not None or parsed.password is not None:
        raise ValueError("Put credentials into a header, not into the address.")


def merged(endpoint: Endpoint, identity: Identity, own: Mapping[str, str]) -> CIMultiDict[str]:
    """Headers of a request: the endpoint's, the identity's over them, and ours over both."""
    headers = CIMultiDict({"User-Agent": "Mooring"} | hops.FIRST)
    for name, value in (*endpoint.headers, *identity.headers, *own.items()):
        headers[name] = value
    return headers


SHARED = Identity()
