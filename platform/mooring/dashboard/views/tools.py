"""The tools of a server's draft: listed, written, switched, deleted, previewed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from mooring.dashboard.forms.problems import attempt
from mooring.dashboard.forms.remembering import CacheForm
from mooring.dashboard.forms.rows import RowSet, longer, wants_row
from mooring.dashboard.forms.tools import (
    ConstantForm,
    ConstantRows,
    HttpForm,
    ParameterForm,
    ParameterRows,
    RemoteToolForm,
    StaticForm,
    ToolForm,
    drawn_schema,
    http_binding,
)
from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import page_of, show
from mooring.dashboard.previewing import Preview, preview_of
from mooring.dashboard.requests import PageRequest
from mooring.dashboard.views.servers import server_context
from servers.access import get_server, get_tool
from servers.importers.remote import warnings_of
from servers.models import Server, Tool
from servers.services import delete_row, save_tool, set_tool_enabled
from servers.services.kinds import TOOL
from tenants.access import Access

TOOLS_A_PAGE = 50


@tenant_page("servers:read")
def index(request: PageRequest, access: Access, server: str) -> HttpResponse:
    found = get_server(access, server)
    sought = request.GET.get("q", "").strip()[:100]
    rows = Tool.objects.filter(server=found)
    total = rows.count()
    if sought:
        rows = rows.filter(
            Q(name__icontains=sought) | Q(title__icontains=sought) | Q(description__icontains=sought)
        )
    page = page_of(request, rows, TOOLS_A_PAGE)
    context = server_context(found, "tools") | {"page": page, "q": sought, "total": total}
    return show(request, "dashboard/tools.html", context, part="list")


@dataclass(frozen=True, slots=True)
class HttpPart:
    """The request of a tool: its form and the rows of parameters and constants."""

    form: HttpForm
    parameters: RowSet
    constants: RowSet

    def is_valid(self) -> bool:
        # All three are asked, so that every problem shows at once.
        return not {part.is_valid() for part in (self.form, self.parameters, self.constants)} - {True}


@dataclass(frozen=True, slots=True)
class Sheet:
    """All forms of one tool's page together; a tool has a request, a static answer, or comes from elsewhere.

    `was` is the definition of one from elsewhere, most of which nobody writes here.
    """

    tool: ToolForm
    http: HttpPart | None = None
    static: StaticForm | None = None
    cache: CacheForm | None = None
    was: dict[str, Any] | None = None

    def is_valid(self) -> bool:
        parts = [part for part in (self.tool, self.http, self.static, self.cache) if part is not None]
        return not {part.is_valid() for part in parts} - {True}

    def definition(self, server: Server) -> dict[str, Any]:
        """The manifest entry; an input schema that was left empty is drawn from the request."""
        cache = self.cache.definition() if self.cache is not None else {}
        if self.was is not None and isinstance(self.tool, RemoteToolForm):
            return self.tool.over(self.was) | cache
        found = self.tool.definition() | cache
        if self.static is not None:
            return found | {"static": self.static.binding()}
        if self.http is None:
            return found
        http = http_binding(self.http.form, self.http.parameters, self.http.constants, server.variables)
        if not self.tool.cleaned_data["input_schema"]:
            found["input_schema"] = drawn_schema(http)
        return found | {"http": http}

    @property
    def first_problem(self) -> str:
        for form in (self.tool, self.http and self.http.form):
            for name, problems in form.errors.items() if form else ():
                return f"{name.replace('_', ' ')}: {problems[0]}"
        return "A row of the request is not complete."


def _blank(kind: str, definition: dict[str, Any]) -> Sheet:
    """Forms that show a definition."""
    cache = CacheForm(initial=definition.get("cache"), prefix="cache")
    if kind == "remote":
        form = RemoteToolForm(initial=RemoteToolForm.initial_of(definition))
        return Sheet(form, cache=cache, was=definition)
    about = ToolForm(initial=ToolForm.initial_of(definition))
    if kind == "static":
        return Sheet(about, static=StaticForm(initial=definition.get("static", {})))
    http = definition.get("http", {})
    parameters = [ParameterForm.initial_of(row) for row in http.get("parameters", [])]
    constants = [ConstantForm.initial_of(row) for row in http.get("constants", [])]
    part = HttpPart(
        HttpForm(initial=HttpForm.initial_of(http)),
        ParameterRows(prefix="parameters", initial=parameters),
        ConstantRows(prefix="constants", initial=constants),
    )
    return Sheet(about, http=part, cache=cache)


def _sent(kind: str, request: PageRequest, definition: dict[str, Any]) -> Sheet:
    cache = CacheForm(request.POST, prefix="cache")
    if kind == "remote":
        return Sheet(RemoteToolForm(request.POST), cache=cache, was=definition)
    about = ToolForm(request.POST)
    if kind == "static":
        return Sheet(about, static=StaticForm(request.POST))
    parameters = longer(ParameterRows, request, prefix="parameters")
    constants = longer(ConstantRows, request, prefix="constants")
    part = HttpPart(HttpForm(request.POST), parameters, constants)
    return Sheet(about, http=part, cache=cache)


@tenant_page("servers:write")
def new(request: PageRequest, access: Access, server: str) -> HttpResponse:
    found = get_server(access, server, "servers:write")
    kind = "static" if request.GET.get("kind") == "static" else "http"
    return _edit(request, access, found, None, kind, {})


@tenant_page("servers:read")
def detail(request: PageRequest, access: Access, server: str, tool: UUID) -> HttpResponse:
    found = get_server(access, server)
    row = get_tool(access, found, tool)
    definition = TOOL.definition_of(row)
    kind = next(kind for kind in ("static", "remote", "http") if kind in definition)
    return _edit(request, access, found, row, kind, definition)


def _edit(
    request: PageRequest,
    access: Access,
    server: Server,
    row: Tool | None,
    kind: str,
    definition: dict[str, Any],
) -> HttpResponse:
    if request.method != "POST":
        return _page(request, server, row, _blank(kind, definition))
    access.require("servers:write")
    sheet = _sent(kind, request, definition)
    if wants_row(request) or not sheet.is_valid():
        return _page(request, server, row, sheet, status=200 if wants_row(request) else 422)
    saved = attempt(
        sheet.tool,
        lambda: save_tool(server, actor=access.actor, tool=row, definition=sheet.definition(server)),
    )
    if saved is None:
        return _page(request, server, row, sheet, status=422)
    messages.success(request, f"The tool {saved.name} is saved in the draft.")
    return redirect("dashboard:tool", access.tenant.slug, server.slug, saved.id)


def _page(
    request: PageRequest, server: Server, row: Tool | None, sheet: Sheet, *, status: int = 200
) -> HttpResponse:
    context = server_context(server, "tools") | {
        "tool": row,
        "sheet": sheet,
        "warnings": warnings_of(sheet.was) if sheet.was else [],
    }
    return show(request, "dashboard/tool.html", context, status=status)


@require_POST
@tenant_page("servers:write")
def preview(request: PageRequest, access: Access, server: str) -> HttpResponse:
    """The request a tool would send, drawn from the form as it stands, with example arguments."""
    found = get_server(access, server, "servers:write")
    sheet = _sent("http", request, {})
    drawn = (
        preview_of(found, sheet.definition(found), request.POST.get("example", ""))
        if sheet.is_valid()
        else Preview(problem=f"Fill in the form first. {sheet.first_problem}")
    )
    return show(request, "dashboard/tool.html#preview", {"preview": drawn})


@require_POST
@tenant_page("servers:write")
def toggle(request: PageRequest, access: Access, server: str, tool: UUID) -> HttpResponse:
    found = get_server(access, server, "servers:write")
    row = get_tool(access, found, tool, "servers:write")
    set_tool_enabled(row, enabled=request.POST.get("enabled") == "yes", actor=access.actor)
    if request.htmx:
        return show(request, "dashboard/tools.html#row", server_context(found, "tools") | {"tool": row})
    return redirect("dashboard:tools", access.tenant.slug, found.slug)


@require_POST
@tenant_page("servers:write")
def delete(request: PageRequest, access: Access, server: str, tool: UUID) -> HttpResponse:
    found = get_server(access, server, "servers:write")
    row = get_tool(access, found, tool, "servers:write")
    delete_row(row, actor=access.actor)
    messages.success(request, f"The tool {row.name} is out of the draft. Published versions keep it.")
    return redirect("dashboard:tools", access.tenant.slug, found.slug)
