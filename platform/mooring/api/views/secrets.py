from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.api.serializers import SecretList, SecretRow, SecretValue
from mooring.api.views.base import TenantView
from mooring.api.views.servers import GONE
from servers import services
from servers.access import get_server
from servers.models import Server


class SecretListView(TenantView):
    @extend_schema(
        summary="List secrets by name",
        description="Those that are set and those the draft needs. Values are never shown.",
        responses=SecretList,
        tags=["Secrets"],
    )
    def get(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug)
        return Response({"data": _rows(server), "missing": services.missing_secrets(server)})


class SecretView(TenantView):
    @extend_schema(summary="Set a secret", request=SecretValue, responses=SecretRow, tags=["Secrets"])
    def put(self, request: Request, slug: str, name: str) -> Response:
        server = get_server(self.access, slug, "secrets:write")
        given = self.taken(SecretValue)
        services.set_secret(server, name=name, value=given["value"], actor=self.access.actor)
        return Response(next(row for row in _rows(server) if row["name"] == name))

    @extend_schema(summary="Remove a secret", responses={204: GONE}, tags=["Secrets"])
    def delete(self, request: Request, slug: str, name: str) -> Response:
        server = get_server(self.access, slug, "secrets:write")
        services.delete_secret(server, name=name, actor=self.access.actor)
        return Response(status=204)


def _rows(server: Server) -> list[dict[str, Any]]:
    """A name that is only needed has a row too."""
    kept = {secret.name: secret for secret in server.secrets.all()}
    return [
        SecretRow(
            {
                "name": name,
                "is_set": name in kept,
                "is_needed": name in server.secrets_needed,
                "last_four": kept[name].last_four if name in kept else "",
                "updated_at": kept[name].updated_at if name in kept else None,
            }
        ).data
        for name in sorted(kept.keys() | server.secrets_needed.keys())
    ]
