from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.api.pages import page_of
from mooring.api.serializers import ToolRow
from mooring.api.views.base import TenantView
from mooring.api.views.servers import GONE
from mooring.errors import InvalidInput
from servers import services
from servers.access import get_server, get_tool


class ToolListView(TenantView):
    order = ("position", "id")

    @extend_schema(summary="List the draft's tools", responses=page_of(ToolRow), tags=["Tools"])
    def get(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug)
        return self.page(server.tools.all(), ToolRow)

    @extend_schema(
        summary="Add a tool to the draft", request=ToolRow, responses={201: ToolRow}, tags=["Tools"]
    )
    def post(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        tool = services.save_tool(server, actor=self.access.actor, tool=None, definition=_definition(request))
        return Response(self.shown(ToolRow, tool), status=201)


class ToolView(TenantView):
    @extend_schema(summary="Show a tool of the draft", responses=ToolRow, tags=["Tools"])
    def get(self, request: Request, slug: str, name: str) -> Response:
        tool = get_tool(self.access, get_server(self.access, slug), name)
        return Response(self.shown(ToolRow, tool))

    @extend_schema(summary="Replace a tool of the draft", request=ToolRow, responses=ToolRow, tags=["Tools"])
    def put(self, request: Request, slug: str, name: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        tool = get_tool(self.access, server, name, "servers:write")
        changed = services.save_tool(
            server, actor=self.access.actor, tool=tool, definition={"name": tool.name} | _definition(request)
        )
        return Response(self.shown(ToolRow, changed))

    @extend_schema(summary="Take a tool out of the draft", responses={204: GONE}, tags=["Tools"])
    def delete(self, request: Request, slug: str, name: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        services.delete_row(get_tool(self.access, server, name, "servers:write"), actor=self.access.actor)
        return Response(status=204)


def _definition(request: Request) -> dict[str, object]:
    if not isinstance(request.data, dict):
        raise InvalidInput("A tool is a JSON object as in a manifest.")
    return request.data
