"""An OpenAPI document on its way to becoming tools: its progress, the choice of operations, the result."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from mooring.dashboard.forms.problems import attempt
from mooring.dashboard.forms.servers import ApplyForm
from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import show, status_of
from mooring.dashboard.requests import PageRequest, posted
from servers.access import get_import, get_server, list_servers
from servers.models import Import, Server
from servers.services import apply_import
from tenants.access import Access
from tenants.slugs import proposed_slug


@tenant_page("servers:write")
def detail(request: PageRequest, access: Access, row: UUID) -> HttpResponse:
    found = get_import(access, row)
    if found.server is not None:
        return redirect("dashboard:server", access.tenant.slug, found.server.slug)
    context = {"section": "servers", "import": found, "job": found.job}
    if not found.result:
        # The fragment asks for itself again each second; once the result is there the page is loaded whole.
        return show(request, "dashboard/import_progress.html", context, part="progress")
    if request.htmx:
        response = HttpResponse(status=204)
        response.headers["HX-Refresh"] = "true"
        return response
    return _choose(request, access, found, context)


def _choose(request: PageRequest, access: Access, found: Import, context: dict[str, Any]) -> HttpResponse:
    operations, manifest = found.result.get("operations", []), found.result.get("manifest", {})
    title = manifest.get("server", {}).get("title", "")
    form = ApplyForm(
        posted(request),
        servers=list_servers(access)[:500],
        initial={"name": title, "slug": proposed_slug(title)},
    )
    chosen = set(request.POST.getlist("operation"))
    if request.method == "POST" and form.is_valid():
        server = attempt(form, lambda: _apply(access, found, form, chosen))
        if server is not None:
            messages.success(
                request, "The tools are in the draft. Set what is missing, try one, then publish."
            )
            return redirect("dashboard:server", access.tenant.slug, server.slug)
    context |= {
        "form": form,
        "title": title,
        "operations": [(operation, operation["key"] in chosen) for operation in operations],
        "left_out": found.result.get("left_out", []),
        "secrets": list(manifest.get("secrets", {}).items()),
        "variables": list(manifest.get("variables", {}).items()),
    }
    return show(request, "dashboard/import.html", context, status=status_of(form))


def _apply(access: Access, found: Import, form: ApplyForm, chosen: set[str]) -> Server:
    data = form.cleaned_data
    target = get_server(access, data["into"], "servers:write") if data["into"] else None
    return apply_import(
        found,
        actor=access.actor,
        server=target,
        slug=None if target else data["slug"],
        title=None if target else data["name"],
        chosen=sorted(chosen) or None,
    )
