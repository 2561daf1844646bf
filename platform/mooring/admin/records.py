"""What happened: calls, changes and background work. Nothing here can be changed."""

from __future__ import annotations

from django.contrib import admin

from mooring.admin.site import ReadOnlyAdmin
from mooring.audit.models import AuditEvent
from mooring.jobs.models import Job
from servers.models import CallRecord


class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("time", "tenant", "actor_name", "action", "target_name", "ip")
    list_select_related = ("tenant",)
    search_fields = ("tenant__slug", "actor_name", "action")
    ordering = ("-time",)


class CallRecordAdmin(ReadOnlyAdmin):
    list_display = (
        "time",
        "tenant",
        "server_slug",
        "method",
        "subject",
        "principal_name",
        "status",
        "code",
        "duration_us",
    )
    list_select_related = ("tenant",)
    list_filter = ("status",)
    search_fields = ("request_id", "tenant__slug")
    ordering = ("-id",)  # ids sort by time, and have the only index that begins with no tenant


class JobAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "tenant", "kind", "state", "attempts", "progress", "error")
    list_select_related = ("tenant",)
    list_filter = ("state", "kind")


def register(site: admin.AdminSite) -> None:
    site.register(AuditEvent, AuditEventAdmin)
    site.register(CallRecord, CallRecordAdmin)
    site.register(Job, JobAdmin)
