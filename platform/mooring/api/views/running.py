from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.api.running_serializers import LogPage, ProcessList, ProcessRow
from mooring.api.views.base import TenantView
from mooring.api.views.servers import GONE
from mooring.errors import InvalidInput
from servers.access import get_server
from servers.services.running import MOST_LINES, instances_of, lines_of, log_page, stop_instance

_DIGITS = 15


class ProcessListView(TenantView):
    @extend_schema(
        summary="List the processes of a server's uploaded code",
        description="Newest first, with those that sleep. 503 where the runner cannot be reached.",
        responses=ProcessList,
        tags=["Code"],
    )
    def get(self, request: Request, slug: str) -> Response:
        found = instances_of(get_server(self.access, slug))
        return Response({"data": ProcessRow(found, many=True).data})


class ProcessView(TenantView):
    @extend_schema(
        summary="End a process; the next call starts it anew", responses={204: GONE}, tags=["Code"]
    )
    def delete(self, request: Request, slug: str, instance: str) -> Response:
        server = get_server(self.access, slug, "servers:operate")
        stop_instance(server, actor=self.access.actor, instance=instance)
        return Response(status=204)


class LogView(TenantView):
    @extend_schema(
        summary="Read what a server's uploaded code says",
        description=(
            "What its processes wrote to standard error, and what the runner says of them, oldest first. Values of "
            "secrets are taken out. Without `after` it is the end of the log. It is lost when the runner is started "
            "again."
        ),
        parameters=[
            OpenApiParameter("after", OpenApiTypes.INT, description="Only lines beyond this number."),
            OpenApiParameter("limit", OpenApiTypes.INT, description=f"At most so many, up to {MOST_LINES}."),
        ],
        responses=LogPage,
        tags=["Code"],
    )
    def get(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        after, most = _number(request, "after", 0), _number(request, "limit", MOST_LINES)
        lines = lines_of(server, after=after, most=min(max(most, 1), MOST_LINES))
        return Response(log_page(lines, after))


def _number(request: Request, name: str, default: int) -> int:
    given = request.query_params.get(name, "")
    if not given:
        return default
    if not (given.isascii() and given.isdigit() and len(given) <= _DIGITS):
        raise InvalidInput(f"`{name}` is a number.", fields={name: ["Write digits only."]})
    return int(given)
