"""HTTP sessions that cannot be talked into reaching what they must not."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from mooring.egress.guard import Guard, Refused, default_guard, plain_http

log = logging.getLogger(__name__)

Lookup = Callable[[str, int], list[tuple[Any, ...]]]

CONNECT_SECONDS = 10
NAMES_SECONDS = 30
# One slow name server of one tenant must not hold up everybody's new connections: a name takes a thread for
# as long as it is being looked up, up to 10 s, and the loop's own pool has six.
NAME_THREADS = 32


class Unreachable(aiohttp.ClientConnectionError):
    """No connection, for whatever reason. One text for all, so that it tells nothing about the inside."""

    def __init__(self) -> None:
        super().__init__("The address could not be reached.")


def session(guard: Guard | None = None, *, lookup: Lookup | None = None) -> aiohttp.ClientSession:
    """Open a session on the running loop. The caller bounds time and bytes, sends `allow_redirects=False` and
    closes it.

    It keeps no cookies, reads no environment and has no limit of connections. Every failure to connect is
    `Unreachable`; a request is never sent a second time behind the caller's back.
    """
    guard = guard or default_guard()
    connector = _GuardedConnector(
        limit=0,
        ssl=tls(),
        resolver=_GuardedNames(guard, lookup or _ask_the_system),
        socket_factory=guard.open_socket,
        ttl_dns_cache=NAMES_SECONDS,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        middlewares=(_once,),
    )


@lru_cache(maxsize=1)
def tls() -> ssl.SSLContext:
    """One context a process: making one reads the whole bundle of certificates, 22 ms and more."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class _GuardedConnector(aiohttp.TCPConnector):
    """Tells the guard what each connection is for, and nobody why there is none."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        plain_http.set(req.url.scheme != "https")
        try:
            return await super().connect(req, traces, timeout)
        except (aiohttp.ClientConnectionError, aiohttp.InvalidURL, OSError) as error:
            log.debug("egress to %s failed: %s", req.url.raw_host, type(error).__name__)
            raise Unreachable from None


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    # What breaks off is `Unreachable` too: for that, aiohttp does not send PUT and DELETE again by itself.
    except (aiohttp.ClientConnectionError, OSError) as error:
        if isinstance(error, TimeoutError):
            raise  # the caller's own limit of time
        raise Unreachable from None


class _GuardedNames(AbstractResolver):
    """Answers of the name service, all or none: a name with one forbidden address is refused whole."""

    def __init__(self, guard: Guard, lookup: Lookup) -> None:
        self._guard = guard
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(_name_threads(), self._lookup, host, port)
        except UnicodeError as error:
            raise Refused("not a name") from error
        # The scheme is judged when the socket is made; an address is judged here as kindly as it can be.
        if not answers or not all(self._guard.permits(answer[4][0], port, plain=False) for answer in answers):
            raise Refused("the name has an address that is not allowed")
        return [_result(host, port, answer) for answer in answers]

    async def close(self) -> None:
        """Nothing is held open."""


def _ask_the_system(host: str, port: int) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG))


def _result(host: str, port: int, answer: tuple[Any, ...]) -> ResolveResult:
    family, _, protocol, _, address = answer
    return ResolveResult(
        hostname=host,
        host=address[0],
        port=port,
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )


@lru_cache(maxsize=1)
def _name_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(NAME_THREADS, thread_name_prefix="names")
