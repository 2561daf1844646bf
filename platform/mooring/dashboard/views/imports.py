"""Documents on their way into a draft: the list, the progress of one, the choice of what becomes of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from mooring.dashboard.forms.organisation import SlugForm
from mooring.dashboard.forms.problems import attempt
from mooring.dashboard.forms.servers import ApplyForm
from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import page_of, show, status_of
from mooring.dashboard.requests import PageRequest, posted
from servers import manifests
from servers.access import get_import, get_server, list_imports, list_servers
from servers.models import Import, Server
from servers.services import apply_import, draft_manifest
from tenants.access import Access
from tenants.slugs import proposed_slug


@tenant_page("servers:write")
def index(request: PageRequest, access: Access) -> HttpResponse:
    """What was handed in, and what became of it."""
    # Without the documents and results, which may be megabytes each.
    page = page_of(request, list_imports(access).defer("document", "result"))
    return show(request, "dashboard/imports.html", {"section": "servers", "page": page})


@tenant_page("servers:write")
def detail(request: PageRequest, access: Access, row: UUID) -> HttpResponse:
    found = get_import(access, row)
    if found.state == "applied":
        return _applied(request, access, found)
    context = {"section": "servers", "import": found, "job": found.job}
    if found.state != "done":
        # The fragment asks for itself again each second; once the result is there the page is loaded whole.
        return show(request, "dashboard/import_progress.html", context, part="progress")
    if request.htmx:
        response = HttpResponse(status=204)
        response.headers["HX-Refresh"] = "true"
        return response
    page = _choose if not found.is_manifest else _confirm if _target(found) else _begin
    return page(request, access, found, context)


def _target(found: Import) -> Server | None:
    """The server it is meant for, while that is there."""
    return None if found.server is None or found.server.deleted_at else found.server


def _applied(request: PageRequest, access: Access, found: Import) -> HttpResponse:
    if server := _target(found):
        return redirect("dashboard:server", access.tenant.slug, server.slug)
    messages.info(request, "This was applied to a server that has been deleted since. Import it again.")
    return redirect("dashboard:imports", access.tenant.slug)


def _begin(request: PageRequest, access: Access, found: Import, context: dict[str, Any]) -> HttpResponse:
    """A manifest for no server yet: it becomes one."""
    manifest = found.result["manifest"]
    title = manifest["server"]["title"]
    form = SlugForm(posted(request), initial={"name": title, "slug": proposed_slug(title)})
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        server = attempt(
            form,
            lambda: apply_import(found, actor=access.actor, slug=data["slug"], title=data["name"]),
        )
        if server is not None:
            messages.success(request, "The server is here as a draft. Look around, then publish it.")
            return redirect("dashboard:server", access.tenant.slug, server.slug)
    context |= {"form": form, "manifest": manifest}
    return show(request, "dashboard/import_server.html", context, status=status_of(form))


def _confirm(request: PageRequest, access: Access, found: Import, context: dict[str, Any]) -> HttpResponse:
    """A manifest that was read: what it would change in its server's draft, and the button that does it."""
    server = get_server(access, found.server.slug if found.server else "", "servers:write")
    if request.method == "POST":
        apply_import(found, actor=access.actor, server=server)
        messages.success(request, "The draft is now what the manifest says.")
        return redirect("dashboard:server", access.tenant.slug, server.slug)
    changes = manifests.differences(draft_manifest(server), found.result["manifest"])
    context |= {"server": server, "changes": changes[:100], "more_changes": max(0, len(changes) - 100)}
    return show(request, "dashboard/import_changes.html", context)


def _choose(request: PageRequest, access: Access, found: Import, context: dict[str, Any]) -> HttpResponse:
    operations, manifest = found.result.get("operations", []), found.result.get("manifest", {})
    title, target = manifest.get("server", {}).get("title", ""), _target(found)
    form = ApplyForm(
        posted(request),
        servers=list_servers(access)[:500],
        initial={
            "name": title,
            "slug": proposed_slug(title),
            "into": target.slug if target else "",
        },
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
