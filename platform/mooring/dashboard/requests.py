"""The request as the dashboard's views see it, and where it came from."""

from __future__ import annotations

import ipaddress

from django.http import HttpRequest, QueryDict
from django_htmx.middleware import HtmxDetails

from mooring.accounts.models import User
from tenants.access import Access


class PageRequest(HttpRequest):
    """A signed-in person's request. `access` is there once a `tenant_page` has been entered."""

    user: User
    htmx: HtmxDetails
    access: Access


def posted(request: HttpRequest) -> QueryDict | None:
    """What a form is bound to: the fields that were sent, be they none, or None when the page is only looked at."""
    return request.POST if request.method == "POST" else None


def is_from_this_machine(request: HttpRequest) -> bool:
    """True only for a direct connection over loopback; one through a proxy may come from anywhere."""
    forwarded = "X-Forwarded-For" in request.headers or "Forwarded" in request.headers
    try:
        return not forwarded and ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
