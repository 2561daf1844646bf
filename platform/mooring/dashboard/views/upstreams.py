"""MCP servers elsewhere that a server takes parts from: declared, looked at, chosen from, compared, accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Q, TextField
from django.db.models.functions import Cast
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from mooring.dashboard.differing import Difference, differences_of
from mooring.dashboard.forms.problems import attempt
from mooring.dashboard.forms.upstreams import NewUpstreamForm, RemoteServerForm, UpstreamForm
from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import page_of, show, status_of
from mooring.dashboard.requests import PageRequest, posted
from mooring.dashboard.views.servers import server_context
from servers.access import get_server, get_upstream
from servers.importers.remote import warnings_of
from servers.models import Server, UpstreamDefinition
from servers.services import (
    Change,
    accept_drift,
    changes_of,
    connect_server,
    delete_upstream,
    missing_secrets,
    missing_variables,
    offered,
    parts_taken,
    save_upstream,
    start_look,
    take_parts,
    upstreams_of,
)
from tenants.access import Access

PARTS_A_PAGE = 200
CHANGES_SHOWN = 20
_NOUNS = {
    "tools": "tool",
    "resources": "resource",
    "resource_templates": "template",
    "prompts": "prompt",
}


@dataclass(frozen=True, slots=True)
class Changed:
    """A changed part, ready to be drawn."""

    change: Change
    noun: str
    differences: list[Difference]
    warnings: list[str]
    can_accept: bool
    is_held_back: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """A row of an upstream's list. `part` is what the draft made of it, if it takes it."""

    row: UpstreamDefinition
    noun: str
    part: dict[str, Any] | None
    warnings: list[str]


# ---- all of a server


@tenant_page("servers:read")
def index(request: PageRequest, access: Access, server: str) -> HttpResponse:
    """The list, what has changed, and the form that adds one."""
    found = get_server(access, server)
    form = NewUpstreamForm(posted(request))
    if request.method == "POST":
        access.require("servers:write")
        if form.is_valid() and attempt(form, lambda: _saved(found, access, form.cleaned_data["name"], form)):
            return redirect("dashboard:upstream", access.tenant.slug, found.slug, form.cleaned_data["name"])
    changes = changes_of(found)
    context = server_context(found, "upstreams") | {
        "upstreams": [one for one in upstreams_of(found, changes) if "url" in one.definition],
        "form": form,
        "missing": missing_secrets(found),
        "missing_variables": missing_variables(found),
        **_changed(found, changes),
    }
    return show(request, "dashboard/upstreams.html", context, status=status_of(form))


def _saved(server: Server, access: Access, name: str, form: UpstreamForm) -> bool:
    """Declared, and looked at at once: a new address has nothing to show before that."""
    save_upstream(server, actor=access.actor, name=name, definition=form.definition())
    start_look(server, name=name)
    return True


def _changed(server: Server, changes: list[Change]) -> dict[str, Any]:
    shown = [_drawn(server, change) for change in changes[:CHANGES_SHOWN]]
    return {"changes": shown, "more_changes": max(0, len(changes) - CHANGES_SHOWN)}


def _drawn(server: Server, change: Change) -> Changed:
    drift = change.drift
    declared = server.upstreams.get(drift.upstream, {})
    return Changed(
        change,
        _NOUNS[drift.section],
        differences_of(drift.pinned, drift.current),
        warnings_of(drift.current),
        can_accept=drift.upstream in server.upstreams,
        is_held_back=change.is_live and declared.get("on_change") != "serve",
    )


# ---- one of them


@tenant_page("servers:read")
def detail(request: PageRequest, access: Access, server: str, name: str) -> HttpResponse:
    found = get_server(access, server)
    state = get_upstream(access, found, name)
    if "code" in found.upstreams[name]:
        return redirect("dashboard:code", access.tenant.slug, found.slug)
    form = UpstreamForm(posted(request), initial=UpstreamForm.initial_of(found.upstreams[name]))
    if request.method == "POST":
        access.require("servers:write")
        if form.is_valid() and attempt(form, lambda: _saved(found, access, name, form)):
            messages.success(request, "Saved in the draft. It is being looked at again.")
            return redirect("dashboard:upstream", access.tenant.slug, found.slug, name)
    changes = changes_of(found)
    context = server_context(found, "upstreams") | {
        "name": name,
        "state": state,
        "upstream": next(one for one in upstreams_of(found, changes) if one.name == name),
        "form": form,
        "missing": missing_secrets(found),
        "missing_variables": missing_variables(found),
        **_listing(request, found, name),
        **_changed(found, [change for change in changes if change.drift.upstream == name]),
    }
    return show(request, "dashboard/upstream.html", context, part="list", status=status_of(form))


def _listing(request: PageRequest, server: Server, name: str) -> dict[str, Any]:
    sought, kind = request.GET.get("q", "").strip()[:100], request.GET.get("kind", "")
    every = offered(server, name)
    rows = every
    if sought:
        rows = rows.annotate(text=Cast("definition", TextField()))
        rows = rows.filter(Q(name__icontains=sought) | Q(text__icontains=sought))
    if kind in _NOUNS:
        rows = rows.filter(section=kind)
    taken = parts_taken(server, name)
    page = page_of(request, rows, PARTS_A_PAGE)
    listed = set(every.values_list("section", "name"))
    return {
        "page": page,
        "offers": [_offer(row, taken.get((row.section, row.name))) for row in page],
        "shown": " ".join(str(row.id) for row in page),
        "total": every.count(),
        "q": sought,
        "kind": kind,
        "kinds": [(section, f"{noun}s") for section, noun in _NOUNS.items()],
        "gone": [key for key in taken if key not in listed],
    }


def _offer(row: UpstreamDefinition, part: dict[str, Any] | None) -> Offer:
    return Offer(row, _NOUNS[row.section], part, warnings_of(row.definition))


@require_POST
@tenant_page("servers:write")
def take(request: PageRequest, access: Access, server: str, name: str) -> HttpResponse:
    """What was shown and is ticked is taken; what was shown and is not is left; the rest stays as it was."""
    found = get_server(access, server, "servers:write")
    get_upstream(access, found, name, "servers:write")
    rows = {str(row): (section, part) for row, section, part in _ids(found, name)}
    shown = {rows[row] for row in request.POST.get("shown", "").split() if row in rows}
    ticked = {rows[row] for row in request.POST.getlist("part") if row in rows}
    kept = parts_taken(found, name).keys() & set(rows.values())
    refused = take_parts(found, actor=access.actor, upstream=name, chosen=(kept - shown) | ticked)
    for sentence in refused[:10]:
        messages.warning(request, f"Not taken: {sentence}")
    if len(refused) > 10:
        messages.warning(request, f"And {len(refused) - 10} more could not be taken.")
    messages.success(request, "The draft takes what you chose, as it is listed today. Try it, then publish.")
    return redirect("dashboard:upstream", access.tenant.slug, found.slug, name)


def _ids(server: Server, name: str) -> Any:
    return offered(server, name).values_list("id", "section", "name")


@require_POST
@tenant_page("servers:write")
def look(request: PageRequest, access: Access, server: str, name: str) -> HttpResponse:
    found = get_server(access, server, "servers:write")
    get_upstream(access, found, name, "servers:write")
    start_look(found, name=name)
    return redirect("dashboard:upstream", access.tenant.slug, found.slug, name)


@tenant_page("servers:read")
def progress(request: PageRequest, access: Access, server: str, name: str) -> HttpResponse:
    """The fragment asks for itself again each second; once the look is over the page is loaded whole."""
    found = get_server(access, server)
    state = get_upstream(access, found, name)
    job = state.job if state is not None else None
    if job is not None and not job.is_finished:
        context = server_context(found, "upstreams") | {"name": name, "state": state}
        return show(request, "dashboard/upstream.html#progress", context)
    response = HttpResponse(status=204)
    response.headers["HX-Refresh"] = "true"
    return response


@require_POST
@tenant_page("servers:write")
def delete(request: PageRequest, access: Access, server: str, name: str) -> HttpResponse:
    found = get_server(access, server, "servers:write")
    get_upstream(access, found, name, "servers:write")
    list_page = "dashboard:code" if "code" in found.upstreams[name] else "dashboard:upstreams"
    delete_upstream(found, actor=access.actor, name=name)
    messages.success(request, f"{name} is out of the draft, with its parts. Published versions keep them.")
    return redirect(list_page, access.tenant.slug, found.slug)


@require_POST
@tenant_page("servers:publish")
def accept(request: PageRequest, access: Access, server: str, name: str) -> HttpResponse:
    """Pin what the upstream says today. The digest names what the person looked at."""
    found = get_server(access, server, "servers:publish")
    get_upstream(access, found, name, "servers:write")
    version = accept_drift(
        found,
        actor=access.actor,
        upstream=name,
        section=request.POST.get("section", ""),
        name=request.POST.get("part", ""),
        digest=request.POST.get("digest", ""),
    )
    done = f"Version {version.number} is live with it." if version else "It is in the draft."
    messages.success(request, f"Accepted. {done}")
    return redirect("dashboard:upstreams", access.tenant.slug, found.slug)


# ---- a server that stands for one elsewhere


@tenant_page("servers:write")
def new_server(request: PageRequest, access: Access) -> HttpResponse:
    form = RemoteServerForm(posted(request))
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        if data["credential"]:
            access.require("secrets:write")
        made = attempt(
            form,
            lambda: connect_server(
                access.tenant,
                slug=data["slug"],
                title=data["name"],
                actor=access.actor,
                url=data["url"],
                transport=data["transport"],
                header=data["header"],
                credential=data["credential"],
            ),
        )
        if made:
            return redirect("dashboard:upstream", access.tenant.slug, made.slug, next(iter(made.upstreams)))
    context = {"section": "servers", "form": form}
    return show(request, "dashboard/new_remote.html", context, status=status_of(form))
