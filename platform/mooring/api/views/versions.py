from __future__ import annotations

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.api.pages import page_of
from mooring.api.serializers import Publication, Rollback, VersionDetail, VersionRow
from mooring.api.views.base import TenantView
from servers import services
from servers.access import get_server, get_version
from servers.models import Server


class VersionListView(TenantView):
    order = ("-ordinal",)

    @extend_schema(summary="List versions, newest first", responses=page_of(VersionRow), tags=["Versions"])
    def get(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug)
        return self.page(server.versions.defer("manifest"), VersionRow, serving=_serving(server))

    @extend_schema(
        summary="Publish the draft",
        description="Freezes it as the next version and moves the channel to it. 409 when nothing changed.",
        request=Publication,
        responses={201: VersionRow},
        tags=["Versions"],
    )
    def post(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug, "servers:publish")
        given = self.taken(Publication)
        version = services.publish(
            server,
            actor=self.access.actor,
            notes=given["notes"],
            number=given.get("number"),
            channel=given["channel"],
            variables=given.get("variables"),
        )
        return Response(self.shown(VersionRow, version, serving=_serving(server)), status=201)


class VersionView(TenantView):
    @extend_schema(summary="Show a version with its manifest", responses=VersionDetail, tags=["Versions"])
    def get(self, request: Request, slug: str, number: str) -> Response:
        server = get_server(self.access, slug)
        version = get_version(self.access, server, number)
        return Response(self.shown(VersionDetail, version, serving=_serving(server)))


class RollbackView(TenantView):
    @extend_schema(
        summary="Move a channel to another version",
        request=Rollback,
        responses=VersionRow,
        tags=["Versions"],
    )
    def post(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug, "servers:publish")
        given = self.taken(Rollback)
        version = get_version(self.access, server, given["version"])
        services.rollback(server, version, actor=self.access.actor, channel=given["channel"])
        return Response(self.shown(VersionRow, version, serving=_serving(server)))


def _serving(server: Server) -> dict[str, uuid.UUID]:
    """Channel → id of the version it serves."""
    return dict(server.channels.values_list("name", "version_id"))
