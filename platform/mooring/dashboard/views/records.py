"""What happened: the log of calls and the log of changes."""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpResponse

from mooring.audit.models import AuditEvent
from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import calls_before, show
from mooring.dashboard.requests import PageRequest
from mooring.errors import NotFound
from servers.access import audit_events, list_servers
from servers.access import calls as recorded_calls
from servers.models import CallRecord
from tenants.access import Access

STATUSES = ("ok", "error", "refused")
CALLS_A_SLICE = 50
EVENTS_A_SLICE = 50


@tenant_page("calls:read")
def calls(request: PageRequest, access: Access) -> HttpResponse:
    sought = {
        name: request.GET.get(name, "").strip()[:100]
        for name in ("server", "tool", "status", "principal", "request")
    }
    context = {
        "section": "calls",
        "slice": calls_before(
            _sifted(recorded_calls(access), sought), request.GET.get("before", ""), CALLS_A_SLICE
        ),
        "sought": sought,
        "is_sifted": any(sought.values()),
        "slugs": list(list_servers(access).values_list("slug", flat=True)[:500]),
        "statuses": STATUSES,
    }
    return show(request, "dashboard/calls.html", context, part="list")


def _sifted(records: QuerySet[CallRecord], sought: dict[str, str]) -> QuerySet[CallRecord]:
    if sought["server"]:
        records = records.filter(server_slug=sought["server"])
    if sought["tool"]:
        records = records.filter(subject__icontains=sought["tool"])
    if sought["status"] in STATUSES:
        records = records.filter(status=sought["status"])
    if sought["principal"]:
        records = records.filter(principal_name__icontains=sought["principal"])
    if sought["request"]:
        records = records.filter(request_id=sought["request"])
    return records


@tenant_page("calls:read")
def call(request: PageRequest, access: Access, row: UUID) -> HttpResponse:
    """One call, with everything that was recorded of it."""
    found = recorded_calls(access).filter(id=row).first()
    if found is None:
        raise NotFound("There is no such call. Calls are kept for a while only.")
    is_there = list_servers(access).filter(slug=found.server_slug).exists()
    return show(request, "dashboard/call.html", {"section": "calls", "call": found, "is_there": is_there})


@tenant_page("audit:read")
def audit(request: PageRequest, access: Access) -> HttpResponse:
    sought = {name: request.GET.get(name, "").strip()[:100] for name in ("actor", "action")}
    events = audit_events(access)
    if sought["actor"]:
        events = events.filter(actor_name__icontains=sought["actor"])
    if sought["action"]:
        events = events.filter(action__icontains=sought["action"])
    context = {
        "section": "audit",
        "slice": _events_before(events, request.GET.get("before", "")),
        "sought": sought,
        "is_sifted": any(sought.values()),
    }
    return show(request, "dashboard/audit.html", context, part="list")


def _events_before(events: QuerySet[AuditEvent], cursor: str) -> dict[str, object]:
    """Newest first; the cursor is a sequence number."""
    is_place = cursor.isdecimal() and len(cursor) < 18
    if is_place:
        events = events.filter(sequence__lt=int(cursor))
    rows = list(events.order_by("-sequence")[: EVENTS_A_SLICE + 1])
    older = str(rows[EVENTS_A_SLICE - 1].sequence) if len(rows) > EVENTS_A_SLICE else ""
    return {"rows": rows[:EVENTS_A_SLICE], "older": older, "newer": is_place}
