"""The two ASGI applications: `application` (both planes) and `data_plane` (gateway and health alone)."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mooring.settings")

from django.core.asgi import get_asgi_application

control_plane = get_asgi_application()  # sets Django up, so everything below may import models

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import URLPattern, re_path

from mooring.bodies import bounded
from mooring.health.probes import health_app
from servers.gateway.app import gateway
from servers.gateway.lifespan import Lifespan
from servers.gateway.refusals import not_found
from servers.gateway.request import Receive, Scope, Send


def _route(pattern: str, app: Any) -> URLPattern:
    """Channels routes ASGI applications with Django's patterns, whose types know only views."""
    route: URLPattern = re_path(pattern, app)
    return route


def _calls_first(router: ProtocolTypeRouter) -> Any:
    """Hand calls to the gateway by their path's shape. The routers would do the same, at a fifteenth of their cost:
    they copy the scope and try Django's patterns, which everything else can afford.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        is_call = (
            path[:3] == "/t/" and path[-4:] == "/mcp" and scope["type"] == "http" and path.count("/") == 4
        )
        await (gateway if is_call else router)(scope, receive, send)

    return serve


def _both(rest: Any) -> Any:
    # Channels' router has no branch for `lifespan` unless it is given one; without it no hook would ever run.
    routes = [
        _route(r"^t/[^/]*/[^/]*/mcp$", gateway),
        _route(r"^\.well-known/oauth-protected-resource/", gateway),
        _route(r"^(healthz?|readyz?|metrics)$", health_app),
        _route(r"", rest),
    ]
    return _calls_first(ProtocolTypeRouter({"lifespan": Lifespan(gateway), "http": URLRouter(routes)}))


application = _both(bounded(control_plane))
data_plane = _both(not_found)
