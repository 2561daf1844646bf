"""A server that is made of others of its organisation."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from mooring.dashboard.forms.composition import MemberForm, MemberRows
from mooring.dashboard.forms.rows import filled, longer, wants_row
from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import show
from mooring.dashboard.requests import PageRequest
from mooring.dashboard.views.servers import server_context
from mooring.errors import ClientError
from servers.access import get_server, list_servers
from servers.models import Server
from servers.services import update_server
from servers.services.members import candidates, members_of
from tenants.access import Access

_PREFIX = "members"


@tenant_page("servers:read")
def index(request: PageRequest, access: Access, server: str) -> HttpResponse:
    found = get_server(access, server)
    members = members_of(found)
    problem = ""
    initial = [MemberForm.initial_of(part) for part in members]
    offered = {"servers": _offered(access, found)}
    rows = MemberRows(prefix=_PREFIX, initial=initial, form_kwargs=offered)
    if request.method == "POST":
        access.require("servers:write")
        rows = longer(MemberRows, request, prefix=_PREFIX, initial=initial, form_kwargs=offered)
        if rows.is_valid() and not wants_row(request):
            problem = _saved(found, access, filled(rows))
            if not problem:
                messages.success(request, "Saved. It goes live with the next version.")
                return redirect("dashboard:server_settings", access.tenant.slug, found.slug)
    is_refused = request.method == "POST" and not wants_row(request)
    context = server_context(found, "settings") | {"rows": rows, "members": members, "problem": problem}
    return show(request, "dashboard/members.html", context, status=422 if is_refused else 200)


def _offered(access: Access, server: Server) -> list[tuple[str, str]]:
    """Only what this person may see."""
    seen = set(list_servers(access).values_list("id", flat=True))
    return [(other.slug, f"{other.title} ({other.slug})") for other in candidates(server) if other.id in seen]


def _saved(server: Server, access: Access, members: list[dict[str, str]]) -> str:
    """Empty, or the sentence that says why not."""
    try:
        update_server(server, actor=access.actor, members=members)
    except ClientError as error:
        return error.message
    return ""
