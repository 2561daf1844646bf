"""`/healthz`, `/readyz` and `/metrics`, answered without Django's middleware, database or host check."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec
from django.conf import settings
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from mooring.health import draining
from mooring.health.checks import State, checks

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_TEXT = b"text/plain; charset=utf-8"
_JSON = b"application/json"
# Set by whatever stands between us and the caller: then a loopback peer is a proxy, not the operator.
_FORWARDED = {b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"}


async def health_app(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application of the three pages, with and without `z`."""
    if scope["method"] not in {"GET", "HEAD"}:
        await _send(send, 405, _TEXT, b"Use GET.\n", [(b"allow", b"GET, HEAD")])
        return
    page = scope["path"].rstrip("/").rpartition("/")[2]
    if page in {"healthz", "health"}:
        await _send(send, 200, _TEXT, b"healthy\n")
    elif page in {"readyz", "ready"}:
        await _ready(scope, send)
    elif page == "metrics" and _may_see_details(scope):
        await _send(send, 200, CONTENT_TYPE_LATEST.encode(), await asyncio.to_thread(generate_latest))
    else:
        await _send(send, 404, _TEXT, b"There is nothing here by that name.\n")


async def _ready(scope: Scope, send: Send) -> None:
    """503 takes us out of the balancer: while draining, or when a check is unhealthy."""
    report = await checks.report()
    is_draining = draining.is_draining()
    status = 503 if is_draining or report.state is State.UNHEALTHY else 200
    word = "draining" if is_draining else report.state.word
    if _may_see_details(scope):
        await _send(send, status, _JSON, msgspec.json.encode(report.as_dict() | {"status": word}))
    else:
        await _send(send, status, _TEXT, word.encode() + b"\n")


def _may_see_details(scope: Scope) -> bool:
    """The bearer of the operator's token, or a program on this machine that comes through no proxy."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    token = settings.METRICS_TOKEN
    if token and hmac.compare_digest(_header(headers, b"authorization"), f"Bearer {token}".encode()):
        return True
    is_direct = _is_loopback(scope.get("client")) and not any(name in _FORWARDED for name, _ in headers)
    return is_direct and _names_this_machine(_header(headers, b"host"))


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next((value for key, value in headers if key == name), b"")


def _names_this_machine(host: bytes) -> bool:
    """A page elsewhere whose name was made to point here still sends its own name."""
    try:
        name = urlsplit(f"//{host.decode('latin-1')}").hostname
    except ValueError:
        return False
    return name in {"localhost", "127.0.0.1", "::1", None} or name in settings.ALLOWED_HOSTS


def _is_loopback(client: tuple[str, int] | None) -> bool:
    try:
        return client is not None and ip_address(client[0]).is_loopback
    except ValueError:
        return False


async def _send(
    send: Send, status: int, kind: bytes, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    fixed = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})
