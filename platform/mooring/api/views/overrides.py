from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.api.upstream_serializers import NewOverride, OverrideList, OverrideRow
from mooring.api.views.base import TenantView
from mooring.api.views.servers import GONE
from servers import services
from servers.access import get_override, get_server


class OverrideListView(TenantView):
    @extend_schema(summary="List the switches that are on", responses=OverrideList, tags=["Operations"])
    def get(self, request: Request, slug: str) -> Response:
        rows = services.active_overrides(get_server(self.access, slug))
        return Response({"data": OverrideRow(rows, many=True).data})

    @extend_schema(
        summary="Set a switch",
        description="One of the same kind on the same tool is replaced. It holds at once, on every channel.",
        request=NewOverride,
        responses=OverrideRow,
        tags=["Operations"],
    )
    def put(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug, "servers:operate")
        override = services.set_override(server, actor=self.access.actor, **self.taken(NewOverride))
        return Response(OverrideRow(override).data)


class OverrideView(TenantView):
    @extend_schema(summary="Take a switch back", responses={204: GONE}, tags=["Operations"])
    def delete(self, request: Request, slug: str, override_id: str) -> Response:
        server = get_server(self.access, slug, "servers:operate")
        services.clear_override(get_override(self.access, server, override_id), actor=self.access.actor)
        return Response(status=204)
