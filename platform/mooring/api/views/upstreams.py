from __future__ import annotations

from functools import partial
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.api.pages import page_of
from mooring.api.upstream_serializers import (
    Acceptance,
    Accepted,
    ChangeList,
    ChangeRow,
    Choice,
    PartRow,
    Taken,
    UpstreamList,
    UpstreamRow,
)
from mooring.api.views.base import TenantView
from mooring.api.views.servers import GONE
from mooring.errors import InvalidInput
from servers import services
from servers.access import get_server, get_upstream
from servers.models import Server, UpstreamDefinition
from servers.services.offers import part_row


class UpstreamListView(TenantView):
    @extend_schema(summary="List the draft's upstreams", responses=UpstreamList, tags=["Upstreams"])
    def get(self, request: Request, slug: str) -> Response:
        rows = services.upstreams_of(get_server(self.access, slug))
        return Response({"data": UpstreamRow(rows, many=True).data})


class UpstreamView(TenantView):
    @extend_schema(summary="Show an upstream", responses=UpstreamRow, tags=["Upstreams"])
    def get(self, request: Request, slug: str, name: str) -> Response:
        server = get_server(self.access, slug)
        get_upstream(self.access, server, name)
        return Response(_shown(server, name))

    @extend_schema(
        summary="Declare an upstream in the draft, or change it",
        description="The body is an entry of a manifest's `upstreams`: url, headers, transport, on_change.",
        request=OpenApiTypes.OBJECT,
        responses=UpstreamRow,
        tags=["Upstreams"],
    )
    def put(self, request: Request, slug: str, name: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        if not isinstance(request.data, dict):
            raise InvalidInput("An upstream is a JSON object as in a manifest.")
        services.save_upstream(server, actor=self.access.actor, name=name, definition=request.data)
        server.refresh_from_db()
        return Response(_shown(server, name))

    @extend_schema(
        summary="Take an upstream out of the draft, with the parts taken from it",
        responses={204: GONE},
        tags=["Upstreams"],
    )
    def delete(self, request: Request, slug: str, name: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        get_upstream(self.access, server, name, "servers:write")
        services.delete_upstream(server, actor=self.access.actor, name=name)
        return Response(status=204)


class UpstreamLookView(TenantView):
    @extend_schema(
        summary="Ask an upstream what it offers",
        description="A worker does it. Follow `job` of the upstream: done or failed is the end.",
        request=None,
        responses={202: UpstreamRow},
        tags=["Upstreams"],
    )
    def post(self, request: Request, slug: str, name: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        services.start_look(server, name=name)
        return Response(_shown(server, name), status=202)


class UpstreamListingView(TenantView):
    order = ("section", "name", "id")

    @extend_schema(
        summary="List what an upstream offers",
        description="As it was when it was last looked at.",
        responses=page_of(PartRow),
        tags=["Upstreams"],
    )
    def get(self, request: Request, slug: str, name: str) -> Response:
        server = get_server(self.access, slug)
        get_upstream(self.access, server, name)
        taken = services.parts_taken(server, name)
        return self.page(services.offered(server, name), PartRow, row_of=partial(_part, taken))


def _part(taken: dict[Any, Any], row: UpstreamDefinition) -> dict[str, Any]:
    return part_row(row, taken.get((row.section, row.name)))


class UpstreamTakeView(TenantView):
    @extend_schema(
        summary="Choose which parts of an upstream the draft takes",
        description="Each is pinned as it is listed now. What is not named is taken out.",
        request=Choice,
        responses=Taken,
        tags=["Upstreams"],
    )
    def post(self, request: Request, slug: str, name: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        get_upstream(self.access, server, name, "servers:write")
        parts = self.taken(Choice).get("parts")
        chosen = (
            set(services.offered(server, name).values_list("section", "name"))
            if parts is None
            else {(part["section"], part["name"]) for part in parts}
        )
        refused = services.take_parts(server, actor=self.access.actor, upstream=name, chosen=chosen)
        return Response({"upstream": _shown(server, name), "refused": refused})


class DriftListView(TenantView):
    @extend_schema(
        summary="List parts that their upstreams define differently now",
        responses=ChangeList,
        tags=["Upstreams"],
    )
    def get(self, request: Request, slug: str) -> Response:
        rows = services.changes_of(get_server(self.access, slug))
        return Response({"data": ChangeRow(rows, many=True).data})


class DriftAcceptView(TenantView):
    @extend_schema(
        summary="Accept what an upstream changed of a part",
        description=(
            "The draft has it then; when the channel live has that part, a new version of it is published with "
            "nothing else changed. 409 when it was changed again since `digest`."
        ),
        request=Acceptance,
        responses=Accepted,
        tags=["Upstreams"],
    )
    def post(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug, "servers:publish")
        self.access.require("servers:write")
        version = services.accept_drift(server, actor=self.access.actor, **self.taken(Acceptance))
        return Response({"version": version.number if version else None})


def _shown(server: Server, name: str) -> dict[str, Any]:
    row = next(one for one in services.upstreams_of(server) if one.name == name)
    return UpstreamRow(row).data
