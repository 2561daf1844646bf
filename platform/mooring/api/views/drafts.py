from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.api.bodies import text_of
from mooring.api.serializers import ImportChoice, ImportRow
from mooring.api.views.base import TenantView
from servers import services
from servers.access import get_import, get_server
from servers.models import Import, Server


class DraftView(TenantView):
    @extend_schema(summary="Show the draft as a manifest", responses=OpenApiTypes.OBJECT, tags=["Draft"])
    def get(self, request: Request, slug: str) -> Response:
        return Response(services.draft_manifest(get_server(self.access, slug)))

    @extend_schema(
        summary="Replace the whole draft by a manifest",
        request=OpenApiTypes.OBJECT,
        responses=OpenApiTypes.OBJECT,
        tags=["Draft"],
    )
    def put(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        services.replace_draft(server, request.data, actor=self.access.actor)
        return Response(services.draft_manifest(server))


class DraftImportView(TenantView):
    @extend_schema(
        summary="Replace the draft's tools by those an OpenAPI document gives",
        description=(
            "Texts, resources and prompts stay. Send the document as text. JSON is applied at once and answered "
            "200. YAML is read by a worker: the answer is 202 and an import to follow at "
            "…/draft/imports/<id>; post there to apply it."
        ),
        request={"application/json": OpenApiTypes.OBJECT, "application/yaml": OpenApiTypes.STR},
        responses={200: ImportRow, 202: ImportRow},
        tags=["Draft"],
    )
    def post(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        text = text_of(request)
        # YAML is never read in this process.
        if text.lstrip()[:1] in ("{", "["):
            return self._applied(server, text)
        return self._read_later(server, text)

    def _applied(self, server: Server, text: str) -> Response:
        started = self._started(server, text)
        # A worker woken meanwhile does the same; whoever comes second changes nothing.
        services.run_import(started.id)
        started.refresh_from_db()
        services.apply_import(started, actor=self.access.actor, server=server)
        return Response(_row("applied", pk=str(started.id), result=started.result))

    def _read_later(self, server: Server, text: str) -> Response:
        return Response(_state_of(self._started(server, text)), status=202)

    def _started(self, server: Server, text: str) -> Import:
        return services.start_import(
            self.access.tenant, actor=self.access.actor, name=f"{server.slug} (API)", document=text, url=None
        )


class DraftImportResultView(TenantView):
    @extend_schema(summary="Follow an import", responses=ImportRow, tags=["Draft"])
    def get(self, request: Request, slug: str, import_id: str) -> Response:
        get_server(self.access, slug, "servers:write")
        return Response(_state_of(get_import(self.access, import_id)))

    @extend_schema(
        summary="Apply a finished import to the draft",
        request=ImportChoice,
        responses=ImportRow,
        tags=["Draft"],
    )
    def post(self, request: Request, slug: str, import_id: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        found = get_import(self.access, import_id)
        given = self.taken(ImportChoice)
        services.apply_import(found, actor=self.access.actor, server=server, chosen=given.get("chosen"))
        return Response(_row("applied", pk=str(found.id), result=found.result))


def _state_of(found: Import) -> dict[str, Any]:
    job = found.job
    if job is None:
        return _row("done" if found.result else "failed", pk=str(found.id), result=found.result)
    return _row(str(job.state), pk=str(found.id), result=found.result, progress=job.progress, error=job.error)


def _row(
    state: str,
    *,
    pk: str,
    result: dict[str, Any] | None = None,
    progress: str = "",
    error: str = "",
) -> dict[str, Any]:
    found = result or {}
    return {
        "id": pk,
        "state": state,
        "progress": progress,
        "error": error,
        "operations": found.get("operations", []),
        "left_out": found.get("left_out", []),
    }
