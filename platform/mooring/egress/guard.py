"""Which addresses tenants may make this installation talk to."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from django.conf import settings
from yarl import URL

from mooring.errors import InvalidInput

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HTTPS_PORTS = frozenset({443})

# The scheme of the request a connection is being opened for: a socket factory is told addresses only.
plain_http: ContextVar[bool] = ContextVar("plain_http", default=True)

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Left out of `is_global` by one Python or another, or carrying an IPv4 address a router may unpack.
_NEVER: tuple[Network, ...] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, also 100.100.100.200
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "2001::/23",  # Teredo and other special purposes
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",
        "5f00::/16",
        "fec0::/10",
    )
)
_NUMBERS_ONLY = re.compile(r"(?:0x[0-9a-f]*|\d+)(?:\.(?:0x[0-9a-f]*|\d+))*\.?", re.IGNORECASE)


class Refused(OSError):
    """The guard said no. Its text never leaves this package: it may hold an internal address."""


class Guard:
    """Public addresses by https on the usual port; the networks in `allow` on any port and by http too."""

    def __init__(self, allow: Iterable[str] = (), *, ports: Iterable[int] = HTTPS_PORTS) -> None:
        self._allow = tuple(_network(text) for text in allow)
        self._ports = frozenset(ports)

    def permits(self, address: str, port: int, *, plain: bool) -> bool:
        """Whether a connection may be opened; `plain` says that it is for http."""
        ip = _unpacked(address)
        if ip is None:
            return False
        return self._allows(ip) or (not plain and port in self._ports and is_public(ip))

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Socket factory of a connector: the last check, on the very address that is connected to."""
        family, kind, protocol, _, address = info
        if not self.permits(address[0], address[1], plain=plain_http.get()):
            raise Refused(f"{address[0]} port {address[1]} is not allowed")
        return socket.socket(family=family, type=kind, proto=protocol)

    def check_url(self, url: str) -> None:
        """Raise InvalidInput for what can be told to be wrong without asking the name service."""
        parsed = _parsed(url)
        host = (parsed.host or "").rstrip(".")
        address = _unpacked("127.0.0.1" if _is_local(host) else host)
        if address is None:
            self._check_name(host, parsed)
        elif not self.permits(str(address), parsed.port or 0, plain=parsed.scheme == "http"):
            raise InvalidInput("Mooring may not reach this address. Ask the operator to allow its network.")

    def _check_name(self, host: str, url: URL) -> None:
        if _NUMBERS_ONLY.fullmatch(host):
            raise InvalidInput("Write the address as four numbers from 0 to 255, or use a name.")
        # A name's network is known on connecting only; with none allowed, nothing but https is left.
        if not self._allow and url.scheme != "https":
            raise InvalidInput("Use an address that starts with https://.")
        if not self._allow and url.port not in self._ports:
            raise InvalidInput(f"Leave out the port: only {_listed(self._ports)} can be reached.")

    def _allows(self, ip: Address) -> bool:
        return any(ip in network for network in self._allow if network.version == ip.version)


def is_public(ip: Address) -> bool:
    if ip.is_multicast or not ip.is_global:
        return False
    if ip.version == 6 and ip not in _GLOBAL_UNICAST:
        return False
    return not any(ip in network for network in _NEVER if network.version == ip.version)


@lru_cache(maxsize=1)
def default_guard() -> Guard:
    return Guard(settings.EGRESS_ALLOW)


def check_url(url: str) -> None:
    """Raise InvalidInput when this installation would never fetch `url`; names are judged on connecting."""
    default_guard().check_url(url)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network such as 10.0.0.0/8.") from None


def _unpacked(address: str) -> Address | None:
    """The address, an IPv4 one taken out of its IPv6 wrapping; None for what is not an address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def _parsed(url: str) -> URL:
    try:
        parsed = URL(url)
        host = parsed.host
    except ValueError:
        raise InvalidInput("This is not a web address. Write one such as https://example.com/path.") from None
    if parsed.scheme not in {"http", "https"} or not host:
        raise InvalidInput("Use an address that starts with https:// and names a host.")
    if parsed.raw_user is not None or parsed.raw_password is not None:
        raise InvalidInput("Leave the user name and password out of the address.")
    if "\\" in url or any(character <= " " or character == "\x7f" for character in url):
        raise InvalidInput("Take spaces, line breaks and backslashes out of the address.")
    return parsed


def _is_local(host: str) -> bool:
    name = host.casefold()
    return name == "localhost" or name.endswith(".localhost")


def _listed(ports: frozenset[int]) -> str:
    return ", ".join(str(port) for port in sorted(ports))
