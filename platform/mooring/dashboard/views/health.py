"""How what a server depends on is, and has been."""

from __future__ import annotations

from django.http import HttpResponse

from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import show
from mooring.dashboard.requests import PageRequest
from mooring.dashboard.views.servers import server_context
from servers.access import get_server
from servers.services import health_of
from tenants.access import Access


@tenant_page("servers:read")
def index(request: PageRequest, access: Access, server: str) -> HttpResponse:
    """The part in the middle asks for itself again, so that the page may be left open in an incident."""
    found = get_server(access, server)
    context = server_context(found, "health") | {"health": health_of(found)}
    return show(request, "dashboard/health.html", context, part="health")
