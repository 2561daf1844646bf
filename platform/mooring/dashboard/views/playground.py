"""Trying a tool of the draft with a form drawn from its schema, as an ordinary MCP client of `@draft`."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse

from mooring.dashboard.forms.arguments import ArgumentsForm
from mooring.dashboard.gate import signed_in, tenant_page
from mooring.dashboard.pages import show, status_of
from mooring.dashboard.playground_client import call
from mooring.dashboard.requests import PageRequest, posted
from mooring.dashboard.views.servers import server_context
from mooring.proxies import client_address
from servers.access import get_server, get_tool
from servers.models import Server, Tool
from servers.services import missing_secrets, missing_variables
from tenants.access import Access, member_access


@tenant_page("servers:test")
def index(request: PageRequest, access: Access, server: str) -> HttpResponse:
    found = get_server(access, server, "servers:test")
    tools = list(Tool.objects.filter(server=found, is_enabled=True).only("id", "name", "title")[:1_000])
    wanted = request.GET.get("tool", "") or (tools[0].name if tools else "")
    tool = get_tool(access, found, wanted, "servers:test") if wanted else None
    form = ArgumentsForm(tool.input_schema) if tool else None
    context = _context(found, tool, form) | {
        "tools": tools,
        "missing": missing_secrets(found),
        "missing_variables": missing_variables(found),
    }
    return _playing(show(request, "dashboard/playground.html", context))


def _context(server: Server, tool: Tool | None, form: ArgumentsForm | None) -> dict[str, Any]:
    return server_context(server, "playground") | {"tool": tool, "form": form}


@signed_in
def run(request: PageRequest, tenant: str, server: str) -> HttpResponse:
    """Send the call. The scope, and with it any transaction, is left before the gateway is asked."""
    with member_access(request.user, tenant, ip=client_address(request)) as access:
        request.access = access
        found = get_server(access, server, "servers:test")
        tool = get_tool(access, found, request.POST.get("tool", ""), "servers:test")
        form = ArgumentsForm(tool.input_schema, posted(request))
    answer = (
        call(request, found, tool, form.arguments()) if request.method == "POST" and form.is_valid() else None
    )
    with member_access(request.user, tenant) as request.access:
        context = _context(found, tool, form) | {"answer": answer, "tools": [tool]}
        page = show(request, "dashboard/playground.html", context, part="answer", status=status_of(form))
        return _playing(page)


def _playing(response: HttpResponse) -> HttpResponse:
    """Sounds of an answer are in the page itself, as pictures are; only here may they be played."""
    response._csp_update = {"media-src": ["data:"]}  # type: ignore[attr-defined]  # django-csp's way
    return response
