"""The way in: the page before signing in, the choice of an organisation, its overview and settings."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from mooring.dashboard.figures import last_day
from mooring.dashboard.forms.organisation import RenameForm, SlugForm
from mooring.dashboard.forms.problems import attempt
from mooring.dashboard.gate import signed_in, tenant_page
from mooring.dashboard.pages import page_of, show, status_of
from mooring.dashboard.requests import PageRequest, posted
from mooring.dashboard.standing import standings
from mooring.proxies import client_address
from servers.access import calls, list_servers
from tenants.access import Access, actor_of, list_keys, list_members, tenants_of
from tenants.services import create_tenant, rename_tenant


def landing(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect("dashboard:choose")
    return show(request, "dashboard/landing.html")


@signed_in
def choose(request: PageRequest) -> HttpResponse:
    """Nobody chooses among none or one."""
    organisations = tenants_of(request.user)
    if not organisations:
        return redirect("dashboard:new_organisation")
    if len(organisations) == 1:
        return redirect("dashboard:overview", organisations[0].slug)
    return show(request, "dashboard/choose.html", {"all_organisations": organisations})


@signed_in
def new_organisation(request: PageRequest) -> HttpResponse:
    form = SlugForm(posted(request))
    if request.method == "POST" and form.is_valid():
        data, actor = form.cleaned_data, actor_of(request.user, client_address(request))
        made = attempt(
            form, lambda: create_tenant(data["slug"], name=data["name"], owner=request.user, actor=actor)
        )
        if made:
            return redirect("dashboard:overview", made.slug)
    is_first = not tenants_of(request.user)
    return show(
        request,
        "dashboard/new_organisation.html",
        {"form": form, "is_first": is_first},
        status=status_of(form),
    )


@dataclass(frozen=True, slots=True)
class Step:
    title: str
    text: str
    action: str
    href: str
    is_done: bool
    permission: str


@tenant_page("servers:read")
def overview(request: PageRequest, access: Access) -> HttpResponse:
    records = calls(access)
    servers = list(list_servers(access)[:6])
    steps = _steps(access, has_calls=records.exists())
    context = {
        "section": "overview",
        "day": last_day(records),
        "recent": list(records[:6]),
        "servers": [
            (server, standing) for server, standing in zip(servers, standings(servers).values(), strict=True)
        ],
        "steps": steps if not all(step.is_done for step in steps) else [],
        "next_step": next((step for step in steps if not step.is_done), None),
    }
    return show(request, "dashboard/overview.html", context)


def _steps(access: Access, *, has_calls: bool) -> list[Step]:
    """Those that this person may take."""
    slug = access.tenant.slug
    servers = list(list_servers(access)[:50])
    known = standings(servers)
    live = next((server for server in servers if known[server.id].live), None)
    focus = live or (servers[0] if servers else None)
    new = reverse("dashboard:new_server", args=[slug])
    has_key = access.may("keys:read") and list_keys(access).exists()
    versions = reverse("dashboard:versions", args=[slug, focus.slug]) if focus else new
    connect = reverse("dashboard:connect", args=[slug, focus.slug]) if focus else new
    steps = [
        Step(
            "Make a server",
            "Import an OpenAPI document, or start from a template.",
            "New server",
            new,
            bool(focus),
            "servers:write",
        ),
        Step(
            "Publish a version",
            "Clients see what is published, never the draft.",
            "Publish",
            versions,
            bool(live),
            "servers:publish",
        ),
        Step(
            "Create an API key",
            "Clients sign in with it. It is shown once.",
            "New key",
            reverse("dashboard:new_key", args=[slug]),
            has_key,
            "keys:write",
        ),
        Step(
            "Connect a client",
            "Paste the configuration and make the first call.",
            "Connect",
            connect,
            has_calls,
            "servers:read" if focus else "servers:write",
        ),
    ]
    return [step for step in steps if access.may(step.permission)]


@tenant_page()
def settings(request: PageRequest, access: Access) -> HttpResponse:
    form = RenameForm(posted(request), initial={"name": access.tenant.name})
    if request.method == "POST":
        access.require("tenant:write")
        if form.is_valid():
            rename_tenant(access.tenant, name=form.cleaned_data["name"], actor=access.actor)
            messages.success(request, "The organisation has a new name.")
            return redirect("dashboard:settings", access.tenant.slug)
    members = page_of(request, list_members(access)) if access.may("members:read") else None
    context = {
        "section": "settings",
        "form": form,
        "members": members,
        "plan": access.tenant.plan,
        "role": access.role,
    }
    return show(request, "dashboard/settings.html", context, status=status_of(form))
