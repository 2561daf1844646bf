"""The two ASGI applications: `application` (both planes) and `data_plane` (gateway and health alone)."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mooring.settings")

from django.core.asgi import get_asgi_application

control_plane = get_asgi_application()  # sets Django up, so everything below may import models

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import URLPattern, re_path

from mooring.health.probes import health_app
from servers.gateway.app import gateway
from servers.gateway.lifespan import Lifespan
from servers.gateway.refusals import not_found


def _route(pattern: str, app: Any) -> URLPattern:
    """Channels routes ASGI applications with Django's patterns, whose types know only views."""
    route: URLPattern = re_path(pattern, app)
    return route


def _both(rest: Any) -> ProtocolTypeRouter:
    # Channels' router has no branch for `lifespan` unless it is given one; without it no hook would ever run.
    routes = [
        _route(r"^t/[^/]*/[^/]*/mcp$", gateway),
        _route(r"^\.well-known/oauth-protected-resource/", gateway),
        _route(r"^(healthz?|readyz?|metrics)$", health_app),
        _route(r"", rest),
    ]
    return ProtocolTypeRouter({"lifespan": Lifespan(gateway), "http": URLRouter(routes)})


application = _both(control_plane)
data_plane = _both(not_found)
