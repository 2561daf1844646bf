"""Where a request came from, through the proxies that stand in front."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """The last address that a proxy of ours wrote down, else the socket's; "" when there is none."""
    peer = str(request.META.get("REMOTE_ADDR") or "")
    return believed(peer, request.headers.get("X-Forwarded-For", ""), settings.TRUSTED_PROXIES)


def believed(peer: str, forwarded: str, trusted: int) -> str:
    """The same of a socket's address and the value of X-Forwarded-For, behind so many `trusted` proxies."""
    hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
    return (hops[-trusted] if 0 < trusted <= len(hops) else peer)[:45]
