from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.accounts.models import User
from mooring.api.pages import page_of
from mooring.api.serializers import IssuedKeyRow, KeyRow, NewKey
from mooring.api.views.base import TenantView
from mooring.api.views.servers import GONE
from mooring.errors import Forbidden
from servers.access import get_server, require_all_servers
from servers.models import Server
from tenants.access import Access, get_key, list_keys
from tenants.permissions import DEFAULT_KEY_SCOPES
from tenants.services import KEY_LIFETIME, create_key, revoke_key


class KeyListView(TenantView):
    order = ("-created_at", "-id")

    @extend_schema(summary="List keys, newest first", responses=page_of(KeyRow), tags=["Keys"])
    def get(self, request: Request) -> Response:
        require_all_servers(self.access)
        return self.page(list_keys(self.access), KeyRow, slugs=_slugs(self.access))

    @extend_schema(
        summary="Create a key",
        description="Its secret is in this answer and nowhere else. It carries at most what yours carries.",
        request=NewKey,
        responses={201: IssuedKeyRow},
        tags=["Keys"],
    )
    def post(self, request: Request) -> Response:
        self.access.require("keys:write")
        given = self.taken(NewKey)
        scopes = given.get("scopes", DEFAULT_KEY_SCOPES)
        _refuse_more_than_own(self.access, scopes, given["servers"])
        issued = create_key(
            self.access.tenant,
            name=given["name"],
            user=_holder(request),
            actor=self.access.actor,
            scopes=scopes,
            servers=[str(get_server(self.access, slug, "keys:write").id) for slug in given["servers"]],
            lifetime=_lifetime(given),
        )
        shown = self.shown(KeyRow, issued.row, slugs=_slugs(self.access))
        return Response(shown | {"secret": issued.secret}, status=201)


class KeyView(TenantView):
    @extend_schema(summary="Revoke a key", responses={204: GONE}, tags=["Keys"])
    def delete(self, request: Request, key_id: uuid.UUID) -> Response:
        require_all_servers(self.access)
        revoke_key(get_key(self.access, key_id), actor=self.access.actor)
        return Response(status=204)


def _holder(request: Request) -> User:
    assert isinstance(request.user, User)  # authentication by key always gives one
    return request.user


def _refuse_more_than_own(access: Access, scopes: Sequence[str], servers: Sequence[str]) -> None:
    """A key that could make a stronger key would be that stronger key."""
    beyond = sorted(set(scopes) - access.permissions)
    if beyond:
        raise Forbidden(
            f"Your own key does not carry {', '.join(beyond)}, so a key made with it cannot either.",
            scopes=beyond,
        )
    if not servers:
        require_all_servers(access)


def _lifetime(given: dict[str, Any]) -> timedelta | None:
    if "days" not in given:
        return KEY_LIFETIME
    return None if given["days"] is None else timedelta(days=given["days"])


def _slugs(access: Access) -> dict[str, str]:
    """Server id → slug, of deleted servers too."""
    servers = Server.objects.filter(tenant=access.tenant).values_list("id", "slug")
    return {str(pk): slug for pk, slug in servers}
