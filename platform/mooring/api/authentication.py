"""`Authorization: Bearer moor_…` → `request.user` is the key's user, `request.auth` the key."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from mooring.accounts.models import User
from mooring.proxies import client_address
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
        self.access = key_access(credential.strip(), client_address(request._request))
        key = self.access.key
        assert key is not None  # an access that came through a key carries it
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="mooring"'
