"""What happened: the call log and the audit log."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from mooring.api.pages import page_of
from mooring.api.serializers import AuditRow, CallRow
from mooring.api.views.base import TenantView
from mooring.audit.models import AuditEvent
from servers.access import audit_events, calls, get_server
from servers.models import CallRecord

_CALL_FILTERS = ("status", "method", "subject", "principal", "version", "request_id")


class CallListView(TenantView):
    order = ("-time", "-id")

    @extend_schema(
        summary="Read the call log, newest first",
        parameters=[OpenApiParameter(name, str) for name in ("server", *_CALL_FILTERS)],
        responses=page_of(CallRow),
        tags=["Records"],
    )
    def get(self, request: Request) -> Response:
        slug = request.query_params.get("server")
        records = calls(self.access, get_server(self.access, slug, "calls:read") if slug else None)
        return self.page(_filtered_calls(records, request), CallRow)


def _filtered_calls(records: QuerySet[CallRecord], request: Request) -> QuerySet[CallRecord]:
    columns = {"principal": "principal_name"}
    for name in _CALL_FILTERS:
        if wanted := request.query_params.get(name, "").replace("\x00", ""):
            records = records.filter(**{columns.get(name, name): wanted})
    return records


class AuditListView(TenantView):
    order = ("-sequence",)

    @extend_schema(
        summary="Read the audit log, newest first",
        parameters=[OpenApiParameter(name, str) for name in ("action", "actor", "target")],
        responses=page_of(AuditRow),
        tags=["Records"],
    )
    def get(self, request: Request) -> Response:
        return self.page(_filtered_events(audit_events(self.access), request), AuditRow)


def _filtered_events(events: QuerySet[AuditEvent], request: Request) -> QuerySet[AuditEvent]:
    columns = {"action": "action", "actor": "actor_name", "target": "target_name"}
    for name, column in columns.items():
        if wanted := request.query_params.get(name, "").replace("\x00", ""):
            events = events.filter(**{column: wanted})
    return events
