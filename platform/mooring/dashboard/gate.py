"""The door to every page of an organisation."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse

from mooring.dashboard.requests import PageRequest
from mooring.proxies import client_address
from tenants.access import Access, member_access

View = Callable[..., HttpResponse]


def signed_in(view: Callable[..., HttpResponse]) -> View:
    """Send everybody else to sign in, and back here afterwards."""
    page: View = login_required(view)
    return page


def tenant_page(permission: str | None = None) -> Callable[[View], View]:
    """Enter the organisation named in the URL and hand its `access` to the view.

    The whole view runs inside the tenant's scope, templates included, since query sets are lazy.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def page(request: PageRequest, tenant: str, **names: Any) -> HttpResponse:
            with member_access(request.user, tenant, ip=client_address(request)) as access:
                request.access = access
                if permission is not None:
                    access.require(permission)
                return view(request, access, **names)

        return signed_in(page)

    return decorate


def access_of(request: HttpRequest) -> Access | None:
    return getattr(request, "access", None)
