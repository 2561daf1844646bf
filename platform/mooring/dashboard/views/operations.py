"""Operational switches over a server's tools: what is on, switched on, taken back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from mooring.dashboard.forms.operations import SwitchForm
from mooring.dashboard.forms.problems import attempt
from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import show, status_of
from mooring.dashboard.requests import PageRequest, posted
from mooring.dashboard.standing import live_version
from mooring.dashboard.views.servers import server_context
from servers.access import get_override, get_server
from servers.models import Override, Server, Tool
from servers.services import clear_override, set_override
from tenants.access import Access

MOST_TOOLS = 5_000


@tenant_page("servers:read")
def index(request: PageRequest, access: Access, server: str) -> HttpResponse:
    found = get_server(access, server)
    form = SwitchForm(posted(request), tools=_tools(found), initial={"tool": request.GET.get("tool", "")})
    if request.method == "POST":
        access.require("servers:operate")
        made = attempt(form, lambda: _switched(found, access, form.cleaned_data)) if form.is_valid() else None
        if made:
            messages.success(request, "The switch is on. It holds within a second, on every channel.")
            return redirect("dashboard:operations", access.tenant.slug, found.slug)
    context = server_context(found, "operations") | {"form": form}
    return show(request, "dashboard/operations.html", context, status=status_of(form))


def _tools(server: Server) -> list[str]:
    """Of the draft and of what is served."""
    live = live_version(server)
    served = [tool["name"] for tool in live.manifest.get("tools", [])] if live else []
    drafted = Tool.objects.filter(server=server).values_list("name", flat=True)[:MOST_TOOLS]
    return sorted({*served, *drafted})


def _switched(server: Server, access: Access, data: dict[str, Any]) -> Override:
    ends = timezone.now() + timedelta(hours=int(data["hours"])) if data["hours"] else None
    return set_override(
        server,
        actor=access.actor,
        kind=data["kind"],
        tool=data["tool"],
        settings=data["settings"],
        reason=data["reason"],
        expires_at=ends,
    )


@require_POST
@tenant_page("servers:operate")
def clear(request: PageRequest, access: Access, server: str, row: UUID) -> HttpResponse:
    found = get_server(access, server, "servers:operate")
    clear_override(get_override(access, found, row), actor=access.actor)
    messages.success(request, "The switch is taken back.")
    return redirect("dashboard:operations", access.tenant.slug, found.slug)
