"""What every template may use without its view saying so."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from mooring.dashboard.gate import access_of
from mooring.dashboard.inbox import is_inbox_open
from mooring.logs import request_id
from servers.services.running import standing
from tenants.access import tenants_of

THEMES = frozenset({"light", "dark"})


def dashboard(request: HttpRequest) -> dict[str, Any]:
    theme = request.COOKIES.get("theme", "")
    user = getattr(request, "user", None)
    access = access_of(request)
    return {
        "theme": theme if theme in THEMES else "",
        "origin": settings.ORIGIN,
        "request_id": request_id.get(),
        "access": access,
        "tenant": access.tenant if access else None,
        "permissions": access.permissions if access else frozenset(),
        "organisations": SimpleLazyObject(partial(tenants_of, user)) if access and user else [],
        "code_standing": SimpleLazyObject(standing) if access else None,
        "inbox_is_open": is_inbox_open(request),
    }
