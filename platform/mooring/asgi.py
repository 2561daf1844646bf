"""The two ASGI applications: `application` (both planes) and `data_plane` (gateway and health alone)."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mooring.settings")

from django.core.asgi import get_asgi_application

control_plane = get_asgi_application()  # sets Django up, so everything below may import models

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import re_path

from mooring.health.probes import health_app
from servers.gateway.app import gateway
from servers.gateway.lifespan import Lifespan
from servers.gateway.refusals import not_found

_HEALTH = re_path(r"^(healthz?|readyz?|metrics)$", health_app)
_GATEWAY = [
    re_path(r"^t/[^/]*/[^/]*/(mcp|sse|messages)$", gateway),
    re_path(r"^\.well-known/oauth-protected-resource/", gateway),
]

# Channels' router has no branch for `lifespan` unless it is given one, and without it no hook would ever run.
application = ProtocolTypeRouter(
    {
        "lifespan": Lifespan(gateway),
        "http": URLRouter([*_GATEWAY, _HEALTH, re_path(r"", control_plane)]),
    }
)
data_plane = ProtocolTypeRouter(
    {
        "lifespan": Lifespan(gateway),
        "http": URLRouter([*_GATEWAY, _HEALTH, re_path(r"", not_found)]),
    }
)
