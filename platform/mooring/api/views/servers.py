from __future__ import annotations

from django.db.models import Prefetch, QuerySet, prefetch_related_objects
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.api.pages import page_of
from mooring.api.serializers import ChannelRow, ChannelVariables, NewServer, ServerChange, ServerRow
from mooring.api.views.base import TenantView
from servers import services
from servers.access import get_server, list_servers, require_all_servers, require_public
from servers.models import Channel, Server

GONE = OpenApiResponse(description="Done; there is no body.")


def _channels() -> QuerySet[Channel]:
    """Without the manifests, which may be megabytes each."""
    channels: QuerySet[Channel] = Channel.objects.select_related("version").defer("version__manifest")
    return channels


class ServerListView(TenantView):
    order = ("slug",)

    @extend_schema(summary="List servers", responses=page_of(ServerRow), tags=["Servers"])
    def get(self, request: Request) -> Response:
        return self.page(
            list_servers(self.access).prefetch_related(Prefetch("channels", _channels())), ServerRow
        )

    @extend_schema(summary="Create a server", request=NewServer, responses={201: ServerRow}, tags=["Servers"])
    def post(self, request: Request) -> Response:
        self.access.require("servers:write")
        require_all_servers(self.access)
        given = self.taken(NewServer)
        require_public(self.access, given["is_public"])
        server = services.create_server(
            self.access.tenant,
            slug=given["slug"],
            title=given.get("title") or given["slug"],
            description=given["description"],
            is_public=given["is_public"],
            actor=self.access.actor,
        )
        return Response(self.shown(ServerRow, server), status=201)


class ServerView(TenantView):
    def _shown(self, server: Server) -> Response:
        prefetch_related_objects([server], Prefetch("channels", _channels()))
        return Response(self.shown(ServerRow, server))

    @extend_schema(summary="Show a server", responses=ServerRow, tags=["Servers"])
    def get(self, request: Request, slug: str) -> Response:
        return self._shown(get_server(self.access, slug))

    @extend_schema(summary="Change a server", request=ServerChange, responses=ServerRow, tags=["Servers"])
    def patch(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        given = self.taken(ServerChange)
        if "is_public" in given:
            require_public(self.access, given["is_public"], server)
        services.update_server(server, actor=self.access.actor, **given)
        return self._shown(server)

    @extend_schema(summary="Delete a server for ever", responses={204: GONE}, tags=["Servers"])
    def delete(self, request: Request, slug: str) -> Response:
        services.delete_server(get_server(self.access, slug, "servers:delete"), actor=self.access.actor)
        return Response(status=204)


class ChannelListView(TenantView):
    order = ("name",)

    @extend_schema(summary="List channels", responses=page_of(ChannelRow), tags=["Channels"])
    def get(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug)
        return self.page(_channels().filter(server=server), ChannelRow)


class ChannelVariablesView(TenantView):
    @extend_schema(
        summary="Set a channel's variables",
        description="Replaces them all. A variable left out or empty falls back to the manifest's default.",
        request=ChannelVariables,
        responses=ChannelVariables,
        tags=["Channels"],
    )
    def put(self, request: Request, slug: str, channel: str) -> Response:
        server = get_server(self.access, slug, "servers:publish")
        given = self.taken(ChannelVariables)
        services.set_variables(server, channel=channel, variables=given["variables"], actor=self.access.actor)
        kept = _channels().get(server=server, name=channel)
        return Response({"variables": kept.variables})
