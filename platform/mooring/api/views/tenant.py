from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.api.serializers import TenantRow
from mooring.api.views.base import TenantView
from servers.models import Server
from tenants.models import ApiKey


class TenantDetailView(TenantView):
    @extend_schema(summary="Who am I, and what may I do?", responses=TenantRow, tags=["Organisation"])
    def get(self, request: Request) -> Response:
        access, key = self.access, request.auth
        assert isinstance(key, ApiKey)
        return Response(
            {
                "slug": access.tenant.slug,
                "name": access.tenant.name,
                "user": key.user.email,
                "role": access.role,
                "permissions": sorted(access.permissions),
                "servers": _slugs(access.servers),
                "key": {
                    "id": str(key.id),
                    "name": key.name,
                    "prefix": key.prefix,
                    "expires_at": key.expires_at and key.expires_at.isoformat(),
                },
            }
        )


def _slugs(limited_to: frozenset[str] | None) -> list[str] | None:
    if limited_to is None:
        return None
    named = Server.objects.filter(id__in=limited_to, deleted_at__isnull=True).order_by("slug")
    return list(named.values_list("slug", flat=True))
