"""Where a request came from, through the proxies that stand in front."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """The last address that a proxy of ours wrote down, else the socket's; "" when there is none."""
    peer = str(request.META.get("REMOTE_ADDR") or "")
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    trusted: int = settings.TRUSTED_PROXIES
    return (hops[-trusted] if 0 < trusted <= len(hops) else peer)[:45]
