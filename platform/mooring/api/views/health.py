from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.api.health_serializers import HealthRow
from mooring.api.views.base import TenantView
from servers.access import get_server
from servers.services import health_of


class HealthView(TenantView):
    @extend_schema(
        summary="Tell how a server's upstreams are",
        description=(
            "Gateways look at each address that a published version depends on once a minute, and every ten minutes "
            "when the server was not called for a day. No tool is called for that and no user's credential is needed: "
            "an upstream that asks for one is there. Of uploaded code they ask its runner, which wakes nothing."
        ),
        responses=HealthRow,
        tags=["Operations"],
    )
    def get(self, request: Request, slug: str) -> Response:
        return Response(self.shown(HealthRow, health_of(get_server(self.access, slug))))
