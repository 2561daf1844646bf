"""Uploaded code: handed in, built, chosen from, run; what its processes say."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from mooring.dashboard.differing import Difference, differences_of
from mooring.dashboard.forms.code import AcceptForm, CodeServerForm, UploadForm
from mooring.dashboard.forms.problems import attempt
from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import page_of, show, status_of
from mooring.dashboard.requests import PageRequest, posted
from mooring.dashboard.views.servers import server_context
from mooring.errors import NotFound, Unavailable
from servers.access import get_build, get_server, list_builds
from servers.importers.code import STAGES
from servers.models import Build, Server
from servers.services import (
    accept_build,
    missing_secrets,
    save_upstream,
    start_build,
    try_again,
    upload_server,
)
from servers.services.artifacts import build_of
from servers.services.built import (
    BuiltPart,
    Comparison,
    code_upstreams,
    comparison_of,
    percent_of,
)
from servers.services.running import instances_of, lines_of, require_runner, standing, stop_instance
from tenants.access import Access

BUILDS_A_PAGE = 10
# While a build runs its newest lines are drawn each second; all of them once it is over.
LINES_WHILE_RUNNING = 200
NOUNS = {"tools": "tool", "resources": "resource", "resource_templates": "template", "prompts": "prompt"}


# ---- all of a server


@tenant_page("servers:read")
def index(request: PageRequest, access: Access, server: str) -> HttpResponse:
    """What runs, the form that uploads, and what was uploaded."""
    found = get_server(access, server)
    form = UploadForm(posted(request), request.FILES or None, initial={"upstream": _usual(found)})
    if request.method == "POST":
        access.require("servers:write")
        require_runner()
        build = attempt(form, lambda: _uploaded(found, access, form)) if form.is_valid() else None
        if build:
            return redirect("dashboard:build", access.tenant.slug, found.slug, build.id)
    builds = page_of(request, list_builds(access, found).defer("log", "offer", "upload__data"), BUILDS_A_PAGE)
    context = server_context(found, "code") | {
        "upstreams": [_drawn(found, name, one) for name, one in code_upstreams(found.upstreams).items()],
        "page": builds,
        "form": form,
        "runner": standing(anew=True),
        "missing": missing_secrets(found),
        **_instances(found),
    }
    return show(request, "dashboard/code.html", context, status=status_of(form))


def _usual(server: Server) -> str:
    return next(iter(code_upstreams(server.upstreams)), "main" if "main" not in server.upstreams else "code")


def _uploaded(server: Server, access: Access, form: UploadForm) -> Build:
    data = form.cleaned_data
    return start_build(
        server,
        actor=access.actor,
        name=data["file"].name,
        data=data["file"].read(),
        upstream=data["upstream"],
        settings=form.settings(),
    )


def _drawn(server: Server, name: str, definition: dict[str, Any]) -> dict[str, Any]:
    build = build_of(server, definition["code"])
    return {"name": name, "definition": definition, "build": build, "form": _run_form(name, definition)}


def _run_form(name: str, definition: dict[str, Any], data: Any = None) -> AcceptForm:
    return AcceptForm(data, initial=AcceptForm.initial_of(definition), prefix=name, auto_id=f"{name}_%s")


def _instances(server: Server) -> dict[str, Any]:
    """Those that run, or why that is not known; a server without code has none, whoever is asked."""
    if not server.builds.exists():
        return {"instances": []}
    try:
        return {"instances": instances_of(server)}
    except Unavailable as error:
        return {"instances": [], "unreachable": error.message}


@require_POST
@tenant_page("servers:write")
def change(request: PageRequest, access: Access, server: str, name: str) -> HttpResponse:
    """How code that was built is run: no new build is needed for that."""
    found = get_server(access, server, "servers:write")
    before = code_upstreams(found.upstreams).get(name)
    if before is None:
        raise NotFound("There is no code by that name.")
    form = _run_form(name, before, request.POST)
    if form.is_valid():
        kept = {part: before[part] for part in ("code", "on_change") if part in before}
        definition = kept | form.settings()
        save_upstream(found, actor=access.actor, name=name, definition=definition)
        messages.success(
            request, "Saved in the draft. It holds for callers once a version with it is published."
        )
    for errors in form.errors.values():
        messages.error(request, " ".join(str(error) for error in errors))
    return redirect("dashboard:code", access.tenant.slug, found.slug)


# ---- one build


@tenant_page("servers:read")
def build(request: PageRequest, access: Access, server: str, row: UUID) -> HttpResponse:
    """Its progress, which asks for itself again each second; then what came of it."""
    found = get_server(access, server)
    made = get_build(access, found, row)
    context = server_context(found, "code") | {
        "build": made,
        "stage": _stage(made),
        "percent": percent_of(made),
    }
    if made.is_under_way:
        context["lines"] = made.log.splitlines()[-LINES_WHILE_RUNNING:]
        return show(request, "dashboard/build.html", context, part="progress")
    if request.htmx:
        response = HttpResponse(status=204)
        response.headers["HX-Refresh"] = "true"
        return response
    if not made.artifact:
        context |= {"problem": made.problem, "paste": made.failure.get("block", "")}
        return show(request, "dashboard/build.html", context)
    return _offer(request, access, found, made, context)


def _stage(build: Build) -> str:
    return STAGES[build.stage][0] if build.stage in STAGES else "Waiting for a worker"


def _offer(
    request: PageRequest, access: Access, server: Server, build: Build, context: dict[str, Any]
) -> HttpResponse:
    comparison = comparison_of(build)
    runs_with = {"mode": build.offer.get("mode", "shared")} | build.settings
    form = AcceptForm(posted(request), initial=AcceptForm.initial_of(runs_with))
    ticked = set(request.POST.getlist("part")) if request.method == "POST" else None
    if request.method == "POST":
        access.require("servers:write")
        if form.is_valid():
            refused = attempt(form, lambda: _accepted(access, build, comparison, form, ticked or set()))
            if refused is not None:
                return _told(request, access, server, refused)
    context |= {
        "form": form,
        "comparison": comparison,
        "parts": [_part(one, ticked) for one in comparison.parts],
        "missing": missing_secrets(server),
    }
    return show(request, "dashboard/build.html", context, status=status_of(form))


def _accepted(
    access: Access, build: Build, comparison: Comparison, form: AcceptForm, ticked: set[str]
) -> list[str]:
    chosen = {(one.found.section, one.found.name) for one in comparison.parts if _value(one) in ticked}
    return accept_build(build, actor=access.actor, chosen=chosen, settings=form.settings())


def _told(request: PageRequest, access: Access, server: Server, refused: list[str]) -> HttpResponse:
    for sentence in refused[:10]:
        messages.warning(request, f"Not taken: {sentence}")
    messages.success(request, "The draft runs this code now. Try it, then publish.")
    return redirect("dashboard:code", access.tenant.slug, server.slug)


def _value(part: BuiltPart) -> str:
    return f"{part.found.section}:{part.found.digest}"


def _part(part: BuiltPart, ticked: set[str] | None) -> dict[str, Any]:
    differences: list[Difference] = []
    if part.change == "changed":
        differences = differences_of(part.was, part.found.definition)
    return {
        "value": _value(part),
        "noun": NOUNS[part.found.section],
        "name": part.found.name,
        "taken_as": part.part["name"] if part.part is not None else "",
        "description": part.found.definition.get("description") or "",
        "change": part.change,
        "differences": differences,
        "warnings": part.warnings,
        "is_ticked": part.is_proposed if ticked is None else _value(part) in ticked,
    }


@require_POST
@tenant_page("servers:write")
def again(request: PageRequest, access: Access, server: str, row: UUID) -> HttpResponse:
    found = get_server(access, server, "servers:write")
    made = get_build(access, found, row, "servers:write")
    require_runner()
    return redirect("dashboard:build", access.tenant.slug, found.slug, try_again(made, actor=access.actor).id)


# ---- what runs


@tenant_page("servers:write")
def logs(request: PageRequest, access: Access, server: str) -> HttpResponse:
    """What the code's processes say. The fragment asks for itself again every two seconds."""
    found = get_server(access, server, "servers:write")
    context = server_context(found, "code") | {"runner": standing()}
    try:
        context |= {"lines": lines_of(found), "instances": instances_of(found)}
    except Unavailable as error:
        context["unreachable"] = error.message
    return show(request, "dashboard/logs.html", context, part="lines")


@require_POST
@tenant_page("servers:operate")
def stop(request: PageRequest, access: Access, server: str, instance: str) -> HttpResponse:
    found = get_server(access, server, "servers:operate")
    stop_instance(found, actor=access.actor, instance=instance)
    messages.success(request, "It is stopped. The next call starts it anew.")
    return redirect("dashboard:code", access.tenant.slug, found.slug)


# ---- a server that is code


@tenant_page("servers:write")
def new_server(request: PageRequest, access: Access) -> HttpResponse:
    form = CodeServerForm(posted(request), request.FILES or None)
    if request.method == "POST":
        require_runner()
        started = attempt(form, lambda: _made(access, form)) if form.is_valid() else None
        if started:
            return redirect("dashboard:build", access.tenant.slug, started.server.slug, started.id)
    context = {"section": "servers", "form": form, "runner": standing(anew=True)}
    return show(request, "dashboard/new_code.html", context, status=status_of(form))


def _made(access: Access, form: CodeServerForm) -> Build:
    data = form.cleaned_data
    return upload_server(
        access.tenant,
        slug=data["slug"],
        title=data["name"],
        actor=access.actor,
        name=data["file"].name,
        data=data["file"].read(),
        settings=form.settings(),
    )
