"""Versions: published from the draft, looked at, made live again; the draft as a manifest, out and in."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from mooring.dashboard.forms.problems import attempt
from mooring.dashboard.forms.servers import ManifestForm, PublishForm
from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import page_of, show, status_of
from mooring.dashboard.requests import PageRequest, posted
from mooring.dashboard.standing import live_version
from mooring.dashboard.views.servers import server_context
from servers import manifests
from servers.access import get_server, get_version
from servers.importers.documents import is_read_at_once, parse_json
from servers.models import Server, Version
from servers.services import (
    draft_manifest,
    missing_secrets,
    missing_variables,
    publish,
    replace_draft,
    rollback,
    start_import,
)
from tenants.access import Access

_TYPES = {"yaml": "application/yaml", "json": "application/json"}


def _newest(server: Server) -> Version | None:
    newest: Version | None = Version.objects.filter(server=server).order_by("-ordinal").first()
    return newest


@tenant_page("servers:read")
def index(request: PageRequest, access: Access, server: str) -> HttpResponse:
    """The list, and the form that publishes."""
    found = get_server(access, server)
    draft, newest = draft_manifest(found), _newest(found)
    highest = newest.number if newest else None
    proposed = manifests.propose_number(newest.manifest if newest else None, highest, draft)
    form = PublishForm(posted(request), initial={"number": proposed})
    if request.method == "POST":
        access.require("servers:publish")
        if form.is_valid():
            version = attempt(form, lambda: publish(found, actor=access.actor, **form.cleaned_data))
            if version is not None:
                messages.success(request, f"Version {version.number} is live.")
                return redirect("dashboard:versions", access.tenant.slug, found.slug)
    changes = manifests.differences(newest.manifest, draft) if newest else []
    context = server_context(found, "versions") | {
        "form": form,
        "page": page_of(request, Version.objects.filter(server=found).defer("manifest")),
        "live": live_version(found),
        "newest": newest,
        "proposed": proposed,
        "changes": changes[:30],
        "more_changes": max(0, len(changes) - 30),
        "is_changed": newest is None or newest.digest != manifests.digest(draft),
        "missing": missing_secrets(found),
        "missing_variables": missing_variables(found),
    }
    return show(request, "dashboard/versions.html", context, status=status_of(form))


@tenant_page("servers:read")
def detail(request: PageRequest, access: Access, server: str, number: str) -> HttpResponse:
    found = get_server(access, server)
    version = get_version(access, found, number)
    before = Version.objects.filter(server=found, ordinal__lt=version.ordinal).order_by("-ordinal").first()
    live = live_version(found)
    context = server_context(found, "versions") | {
        "version": version,
        "before": before,
        "changes": manifests.differences(before.manifest, version.manifest) if before else [],
        "is_live": live is not None and live.id == version.id,
        "yaml": manifests.dump(version.manifest, "yaml") if manifests.is_small(version.manifest) else "",
    }
    return show(request, "dashboard/version.html", context)


@require_POST
@tenant_page("servers:publish")
def make_live(request: PageRequest, access: Access, server: str, number: str) -> HttpResponse:
    found = get_server(access, server, "servers:publish")
    version = get_version(access, found, number)
    rollback(found, version, actor=access.actor)
    messages.success(request, f"Version {version.number} is live.")
    return redirect("dashboard:versions", access.tenant.slug, found.slug)


# ---- the manifest


@tenant_page("servers:read")
def draft_file(request: PageRequest, access: Access, server: str, kind: str) -> HttpResponse:
    found = get_server(access, server)
    return _file(draft_manifest(found), f"{found.slug}-draft", kind)


@tenant_page("servers:read")
def version_file(request: PageRequest, access: Access, server: str, number: str, kind: str) -> HttpResponse:
    found = get_server(access, server)
    version = get_version(access, found, number)
    return _file(version.manifest, f"{found.slug}-{version.number}", kind)


def _file(manifest: dict[str, Any], name: str, kind: str) -> HttpResponse:
    """As YAML only while that is quick to write; large manifests are JSON, which is YAML too."""
    if kind not in _TYPES:
        raise Http404
    if kind == "yaml" and not manifests.is_small(manifest):
        kind = "json"
    text = manifests.dump(manifest, "yaml" if kind == "yaml" else "json")
    response = HttpResponse(text, content_type=f"{_TYPES[kind]}; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@tenant_page("servers:write")
def import_manifest(request: PageRequest, access: Access, server: str) -> HttpResponse:
    found = get_server(access, server, "servers:write")
    form = ManifestForm(posted(request), request.FILES or None)
    if request.method == "POST" and form.is_valid():
        if not is_read_at_once(form.text):
            if later := attempt(form, lambda: _read_later(form, found, access)):
                return later
        elif attempt(form, lambda: _replaced(found, access, form.text)):
            messages.success(request, "The draft is now what the manifest says.")
            return redirect("dashboard:server", access.tenant.slug, found.slug)
    context = server_context(found, "versions") | {"form": form}
    return show(request, "dashboard/import_manifest.html", context, status=status_of(form))


def _replaced(server: Server, access: Access, text: str) -> bool:
    replace_draft(server, parse_json(text), actor=access.actor)
    return True


def _read_later(form: ManifestForm, server: Server, access: Access) -> HttpResponse:
    """What takes long is a worker's work: here it would hold up every other request of this process."""
    started = start_import(
        access.tenant, actor=access.actor, name=form.source_name, document=form.text, url=None, server=server
    )
    return redirect("dashboard:import", access.tenant.slug, started.id)
