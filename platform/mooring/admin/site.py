"""The site for staff: it reads across tenants, signs in through allauth, and turns refusals into messages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.admin import ModelAdmin
from unfold.sites import UnfoldAdminSite

from mooring.accounts.models import User
from mooring.audit.record import Actor
from mooring.errors import MooringError
from mooring.proxies import client_address
from mooring.scope import system_scope

View = Callable[..., HttpResponse]


class StaffSite(UnfoldAdminSite):  # type: ignore[misc]  # unfold ships no types
    site_header = site_title = "Mooring staff"
    index_title = "Everything hosted here"

    def admin_view(self, view: View, cacheable: bool = False) -> View:
        """Every page runs across tenants; the answer is rendered before the scope ends."""
        inner: View = super().admin_view(view, cacheable)

        @wraps(view)
        def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            with system_scope():
                try:
                    response = inner(request, *args, **kwargs)
                    if hasattr(response, "render"):
                        response = response.render()
                    return _with_its_policy(response)
                except MooringError as error:
                    messages.error(request, error.message)
                    return HttpResponseRedirect(request.path)

        return page

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Staff sign in where everybody does, with its codes, limits and second factors."""
        if request.user.is_authenticated:
            raise PermissionDenied  # signing in again would lead straight back here
        return redirect_to_login(request.GET.get("next", request.path))


def _with_its_policy(response: HttpResponse) -> HttpResponse:
    """Unfold's pages are drawn by Alpine, which evaluates expressions and sets styles. Only staff get them."""
    policy = {"script-src": ["'unsafe-eval'"], "style-src": ["'unsafe-inline'"]}
    response._csp_update = policy  # type: ignore[attr-defined]  # django-csp's way to widen one answer
    return response


class StaffAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """Rows that staff may look at; subclasses say which may be changed, and through which service."""

    list_per_page = 50
    show_full_result_count = False
    actions: Any = ()

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def log_addition(self, *_: object) -> None:
        """The audit log is the record of what staff do; Django's own would be a second one."""

    log_change = log_deletions = log_addition


class ReadOnlyAdmin(StaffAdmin):
    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


def staff_actor(request: HttpRequest) -> Actor:
    assert isinstance(request.user, User)
    return Actor("staff", str(request.user.pk), request.user.email, client_address(request))


site = StaffSite()
