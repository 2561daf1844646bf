"""`Authorization: Bearer moor_…` → `request.user` is the key's user, `request.auth` the key."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from mooring.accounts.models import User
from tenants.access import Access, key_access
from tenants.models import ApiKey


class ApiKeyAuthentication(BaseAuthentication):
    """One is made for each request; `access` is set once it has succeeded."""

    access: Access

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        """None without a bearer credential; raises `Unauthenticated` for one that is not good."""
        scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        self.access = key_access(credential.strip(), client_ip(request._request))
        key = self.access.key
        assert key is not None  # an access that came through a key carries it
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="mooring"'


def client_ip(request: HttpRequest) -> str:
    """The peer, or what the outermost trusted proxy says it is."""
    peer = str(request.META.get("REMOTE_ADDR") or "")
    if not settings.TRUSTED_PROXIES:
        return peer[:45]
    forwarded = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    return ([*forwarded, peer][-settings.TRUSTED_PROXIES - 1 :] or [peer])[0][:45]
