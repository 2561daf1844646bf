"""Servers: listed, made in one of six ways, looked at, described, given secrets and variables, deleted."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from mooring.dashboard.figures import last_day, traffic
from mooring.dashboard.forms.organisation import SlugForm
from mooring.dashboard.forms.problems import attempt
from mooring.dashboard.forms.servers import (
    DescribeForm,
    DocumentForm,
    SecretForm,
    ServerForm,
    VariableForm,
)
from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import page_of, show, status_of
from mooring.dashboard.requests import PageRequest, posted
from mooring.dashboard.standing import live_version, standing_of, standings
from servers import manifests
from servers.access import calls, get_server, list_servers, require_public
from servers.models import Channel, Secret, Server
from servers.services import (
    TEMPLATES,
    active_overrides,
    create_from_template,
    create_server,
    delete_secret,
    delete_server,
    draft_manifest,
    live_drifts,
    missing_secrets,
    set_secret,
    set_variables,
    start_import,
    unhealthy_upstreams,
    update_server,
)
from servers.services.members import members_of
from tenants.access import Access

# Two forms stand on the page of secrets, and both have a name.
_VARIABLE_ID = "variable_%s"


@tenant_page("servers:read")
def index(request: PageRequest, access: Access) -> HttpResponse:
    sought = request.GET.get("q", "").strip()[:100]
    found = list_servers(access)
    total = found.count()
    if sought:
        found = found.filter(Q(slug__icontains=sought) | Q(title__icontains=sought))
    page = page_of(request, found)
    listed = list(page)
    known, figures = standings(listed), traffic(calls(access), [server.id for server in listed])
    context = {
        "section": "servers",
        "page": page,
        "rows": [(server, known[server.id], figures[server.id]) for server in listed],
        "q": sought,
        "total": total,
    }
    return show(request, "dashboard/servers.html", context, part="list")


# ---- ways to make one; views/upstreams.py and views/code.py have two more


@tenant_page("servers:write")
def new(request: PageRequest, access: Access) -> HttpResponse:
    return show(request, "dashboard/new_server.html", {"section": "servers", "templates": TEMPLATES})


@tenant_page("servers:write")
def new_from_openapi(request: PageRequest, access: Access) -> HttpResponse:
    form = DocumentForm(posted(request), request.FILES or None)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        started = attempt(
            form,
            lambda: start_import(
                access.tenant,
                actor=access.actor,
                name=form.source_name,
                document=data["file"] or data["document"] or None,
                url=data["url"] or None,
            ),
        )
        if started:
            return redirect("dashboard:import", access.tenant.slug, started.id)
    return show(
        request, "dashboard/new_import.html", {"section": "servers", "form": form}, status=status_of(form)
    )


@tenant_page("servers:write")
def new_empty(request: PageRequest, access: Access, way: str) -> HttpResponse:
    """An empty server, and then its first tool (`way` "tools") or resource ("content")."""
    form = ServerForm(posted(request))
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        require_public(access, data["is_public"])
        server = attempt(
            form,
            lambda: create_server(
                access.tenant,
                slug=data["slug"],
                title=data["name"],
                description=data["description"],
                is_public=data["is_public"],
                actor=access.actor,
            ),
        )
        if server:
            page = "dashboard:new_tool" if way == "tools" else "dashboard:content"
            return redirect(page, access.tenant.slug, server.slug)
    return show(
        request,
        "dashboard/new_empty.html",
        {"section": "servers", "form": form, "way": way},
        status=status_of(form),
    )


@tenant_page("servers:write")
def new_from_template(request: PageRequest, access: Access, template: str) -> HttpResponse:
    chosen = TEMPLATES.get(template)
    if chosen is None:
        return redirect("dashboard:new_server", access.tenant.slug)
    form = SlugForm(posted(request), initial={"name": chosen.title, "slug": template})
    form.fields["name"].disabled = True
    if request.method == "POST" and form.is_valid():
        slug = form.cleaned_data["slug"]
        server = attempt(
            form,
            lambda: create_from_template(access.tenant, template=template, slug=slug, actor=access.actor),
        )
        if server:
            messages.success(request, "The server is here as a draft. Look around, then publish it.")
            return redirect("dashboard:server", access.tenant.slug, server.slug)
    context = {"section": "servers", "form": form, "template": chosen, "key": template}
    return show(request, "dashboard/new_from_template.html", context, status=status_of(form))


# ---- one server


@tenant_page("servers:read")
def detail(request: PageRequest, access: Access, server: str) -> HttpResponse:
    found = get_server(access, server)
    standing = standing_of(found)
    changes = manifests.differences(standing.live.manifest, draft_manifest(found)) if standing.live else []
    records = calls(access, found) if access.may("calls:read") else None
    context = server_context(found, "overview") | {
        "standing": standing,
        "drifts": len(live_drifts(found)),
        "unhealthy": unhealthy_upstreams(found),
        "changes": changes[:12],
        "more_changes": max(0, len(changes) - 12),
        "day": last_day(records) if records is not None else None,
        "recent": list(records[:5]) if records is not None else [],
    }
    return show(request, "dashboard/server.html", context)


def server_context(server: Server, tab: str) -> dict[str, object]:
    """What the head of every page of one server needs."""
    return {"section": "servers", "server": server, "tab": tab, "switches": active_overrides(server)}


@tenant_page("servers:read")
def describe(request: PageRequest, access: Access, server: str) -> HttpResponse:
    found = get_server(access, server)
    names = ("title", "description", "instructions", "is_public")
    form = DescribeForm(posted(request), initial={name: getattr(found, name) for name in names})
    if request.method == "POST":
        access.require("servers:write")
        if form.is_valid():
            require_public(access, form.cleaned_data["is_public"], found)
        if form.is_valid() and attempt(form, lambda: _updated(found, access, form.cleaned_data)):
            messages.success(
                request, "Saved. Title, description and instructions go live with the next version."
            )
            return redirect("dashboard:server_settings", access.tenant.slug, found.slug)
    context = server_context(found, "settings") | {"form": form, "members": members_of(found)}
    return show(request, "dashboard/server_settings.html", context, status=status_of(form))


def _updated(server: Server, access: Access, fields: dict[str, object]) -> bool:
    update_server(server, actor=access.actor, **fields)
    return True


@require_POST
@tenant_page("servers:delete")
def delete(request: PageRequest, access: Access, server: str) -> HttpResponse:
    found = get_server(access, server, "servers:delete")
    delete_server(found, actor=access.actor)
    messages.success(request, f"The server {found.slug} is gone.")
    return redirect("dashboard:servers", access.tenant.slug)


# ---- secrets and variables


@tenant_page("servers:read")
def secrets(request: PageRequest, access: Access, server: str) -> HttpResponse:
    found = get_server(access, server)
    form = SecretForm(posted(request), initial={"name": request.GET.get("name", "")})
    if request.method == "POST":
        access.require("secrets:write")
        if form.is_valid() and attempt(form, lambda: _secret_set(found, access, form.cleaned_data)):
            messages.success(request, f"The secret {form.cleaned_data['name']} is set.")
            return redirect("dashboard:secrets", access.tenant.slug, found.slug)
    return _secrets_page(request, found, form, VariableForm(auto_id=_VARIABLE_ID))


def _secret_set(server: Server, access: Access, data: dict[str, str]) -> bool:
    set_secret(server, name=data["name"], value=data["value"], actor=access.actor)
    return True


def _secrets_page(
    request: PageRequest, server: Server, form: SecretForm, variable_form: VariableForm
) -> HttpResponse:
    live = live_version(server)
    channel = Channel.objects.filter(server=server, name="live").first()
    context = server_context(server, "secrets") | {
        "form": form,
        "variable_form": variable_form,
        "present": list(Secret.objects.filter(server=server).order_by("name")),
        "missing": [(name, server.secrets_needed.get(name, {})) for name in missing_secrets(server)],
        "variables": list(server.variables.items()),
        "live_variables": list((live.manifest.get("variables") or {}).items()) if live else [],
        "live_values": channel.variables if channel else {},
    }
    return show(request, "dashboard/secrets.html", context, status=status_of(form, variable_form))


@require_POST
@tenant_page("secrets:write")
def remove_secret(request: PageRequest, access: Access, server: str) -> HttpResponse:
    found = get_server(access, server)
    delete_secret(found, name=request.POST.get("name", ""), actor=access.actor)
    messages.success(request, "The secret is gone. Tools that name it answer with an error that says so.")
    return redirect("dashboard:secrets", access.tenant.slug, found.slug)


@require_POST
@tenant_page("servers:write")
def variables(request: PageRequest, access: Access, server: str) -> HttpResponse:
    """Add or change one variable of the draft, or take one out (`remove`)."""
    found = get_server(access, server, "servers:write")
    form = VariableForm(request.POST, auto_id=_VARIABLE_ID)
    gone = request.POST.get("remove")
    if gone:
        kept = {name: part for name, part in found.variables.items() if name != gone}
        update_server(found, actor=access.actor, variables=kept)
    elif not (form.is_valid() and attempt(form, lambda: _variable_set(found, access, form.cleaned_data))):
        return _secrets_page(request, found, SecretForm(), form)
    messages.success(request, "Saved in the draft.")
    return redirect("dashboard:secrets", access.tenant.slug, found.slug)


def _variable_set(server: Server, access: Access, data: dict[str, str]) -> bool:
    part = {name: data[name] for name in ("default", "description") if data[name]}
    update_server(server, actor=access.actor, variables=server.variables | {data["name"]: part})
    return True


@require_POST
@tenant_page("servers:publish")
def live_variables(request: PageRequest, access: Access, server: str) -> HttpResponse:
    """Values of the live version's variables; they hold at once, without a new version."""
    found = get_server(access, server, "servers:publish")
    live = live_version(found)
    names = (live.manifest.get("variables") or {}) if live else {}
    values = {name: request.POST.get(f"value.{name}", "") for name in names}
    set_variables(found, channel="live", variables=values, actor=access.actor)
    messages.success(request, "Saved. It holds within a second.")
    return redirect("dashboard:secrets", access.tenant.slug, found.slug)
