from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.api.build_serializers import BuildAcceptance, BuildDetail, BuildRow, NewBuild
from mooring.api.pages import page_of
from mooring.api.upstream_serializers import Taken, UpstreamRow
from mooring.api.views.base import TenantView
from servers import services
from servers.access import get_build, get_server, list_builds
from servers.services.builds import MAX_BYTES
from servers.services.built import build_detail
from servers.services.running import require_runner

# What stands around the file in the body.
_MARGIN = 256 * 1024


class BuildListView(TenantView):
    order = ("-created_at", "-id")
    parser_classes = (MultiPartParser,)
    most_bytes = MAX_BYTES + _MARGIN

    @extend_schema(summary="List builds of uploaded code", responses=page_of(BuildRow), tags=["Code"])
    def get(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug)
        return self.page(list_builds(self.access, server).defer("log", "offer", "upload__data"), BuildRow)

    @extend_schema(
        summary="Upload Python code and have it built",
        description=(
            "A worker does it. Follow `state`: done or failed is the end. The draft is as it was until the build is "
            "accepted. 503 where this installation cannot run uploaded code."
        ),
        request={"multipart/form-data": NewBuild},
        responses={202: BuildRow},
        tags=["Code"],
    )
    def post(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        require_runner()
        given = NewBuild(data=request.data)
        given.is_valid(raise_exception=True)
        file = given.validated_data["file"]
        build = services.start_build(
            server,
            actor=self.access.actor,
            name=file.name,
            data=file.read(),
            upstream=given.validated_data["upstream"],
            settings=given.settings(),
        )
        return Response(BuildRow(build).data, status=202)


class BuildView(TenantView):
    @extend_schema(
        summary="Show a build, with its log",
        parameters=[
            OpenApiParameter("log_from", OpenApiTypes.INT, description="Send the log from this character on.")
        ],
        responses=BuildDetail,
        tags=["Code"],
    )
    def get(self, request: Request, slug: str, build_id: str) -> Response:
        build = get_build(self.access, get_server(self.access, slug), build_id)
        start = request.query_params.get("log_from", "")
        return Response(
            _shown(build_detail(build, int(start[:9]) if start.isascii() and start.isdigit() else 0))
        )


def _shown(detail: dict[str, Any]) -> Any:
    return BuildDetail(detail).data


class BuildAgainView(TenantView):
    @extend_schema(
        summary="Build the same upload once more, with the same versions of packages",
        request=None,
        responses={202: BuildRow},
        tags=["Code"],
    )
    def post(self, request: Request, slug: str, build_id: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        build = get_build(self.access, server, build_id, "servers:write")
        require_runner()
        return Response(BuildRow(services.try_again(build, actor=self.access.actor)).data, status=202)


class BuildAcceptView(TenantView):
    @extend_schema(
        summary="Let the draft run what a build gave",
        description="Its parts are pinned as they were found when it was built. Nothing is published by this.",
        request=BuildAcceptance,
        responses=Taken,
        tags=["Code"],
    )
    def post(self, request: Request, slug: str, build_id: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        build = get_build(self.access, server, build_id, "servers:write")
        given = self.taken(BuildAcceptance)
        parts = given.pop("parts", None)
        chosen = None if parts is None else {(part["section"], part["name"]) for part in parts}
        refused = services.accept_build(build, actor=self.access.actor, chosen=chosen, settings=given)
        server.refresh_from_db()
        row = next(one for one in services.upstreams_of(server) if one.name == build.upstream)
        return Response({"upstream": UpstreamRow(row).data, "refused": refused})
