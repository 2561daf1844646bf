from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.api.bodies import text_of
from mooring.api.errors import body_of
from mooring.api.pages import page_of
from mooring.api.serializers import ImportChoice, ImportRow, ImportSummary
from mooring.api.views.base import TenantView
from servers import services
from servers.access import get_import, get_server, list_imports
from servers.importers.documents import is_read_at_once


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
        summary="Put a document into the draft",
        description=(
            "Send the document as text. An OpenAPI document replaces the tools; texts, resources and prompts stay. "
            "A manifest replaces the whole draft. JSON up to 5 MiB is applied at once and answered 200. YAML, and "
            "a manifest in JSON up to 16 MiB, is read by a worker: the answer is 202 and an import to follow at "
            "…/draft/imports/<id>; post there to apply it."
        ),
        request={"application/json": OpenApiTypes.OBJECT, "application/yaml": OpenApiTypes.STR},
        responses={200: ImportRow, 202: ImportRow},
        tags=["Draft"],
    )
    def post(self, request: Request, slug: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        text, name = text_of(request), f"{server.slug} (API)"
        if "yaml" in (request.content_type or "") or not is_read_at_once(text):
            started = services.start_import(
                self.access.tenant,
                actor=self.access.actor,
                name=name,
                document=text,
                url=None,
                server=server,
            )
            return Response(self.shown(ImportRow, started), status=202)
        done, refusal = services.import_now(server, actor=self.access.actor, name=name, document=text)
        if refusal is not None:
            # Not raised, which would take back that the import is listed as failed.
            return Response(body_of(refusal), status=refusal.status)
        return Response(self.shown(ImportRow, done))


class DraftImportResultView(TenantView):
    @extend_schema(summary="Follow an import", responses=ImportRow, tags=["Draft"])
    def get(self, request: Request, slug: str, import_id: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        return Response(self.shown(ImportRow, get_import(self.access, import_id, server)))

    @extend_schema(
        summary="Apply a finished import to the draft",
        request=ImportChoice,
        responses=ImportRow,
        tags=["Draft"],
    )
    def post(self, request: Request, slug: str, import_id: str) -> Response:
        server = get_server(self.access, slug, "servers:write")
        found = get_import(self.access, import_id, server)
        given = self.taken(ImportChoice)
        services.apply_import(found, actor=self.access.actor, server=server, chosen=given.get("chosen"))
        return Response(self.shown(ImportRow, found))


class ImportListView(TenantView):
    order = ("-created_at", "-id")

    @extend_schema(
        summary="List imports, newest first",
        description="A limited key sees those for its servers.",
        responses=page_of(ImportSummary),
        tags=["Draft"],
    )
    def get(self, request: Request) -> Response:
        return self.page(list_imports(self.access).defer("document", "result"), ImportSummary)
