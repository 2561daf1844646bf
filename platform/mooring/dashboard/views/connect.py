"""How to connect a client to a server: for members, and in public for public servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from mooring.dashboard.clients import clients
from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import show
from mooring.dashboard.requests import PageRequest
from mooring.dashboard.standing import live_version
from mooring.dashboard.views.servers import server_context
from mooring.errors import NotFound
from servers.access import get_server, public_server
from tenants.access import Access

MOST_SHOWN = 100
_SECTIONS = {
    "tools": ("Tools", "name"),
    "resources": ("Resources", "uri"),
    "resource_templates": ("Resource templates", "uri_template"),
    "prompts": ("Prompts", "name"),
}


def _endpoint(tenant: str, server: str) -> str:
    return f"{settings.ORIGIN}/t/{tenant}/{server}/mcp"


@tenant_page("servers:read")
def connect(request: PageRequest, access: Access, server: str) -> HttpResponse:
    found = get_server(access, server)
    url = _endpoint(access.tenant.slug, found.slug)
    context = server_context(found, "connect") | {
        "live": live_version(found),
        "url": url,
        "clients": clients(found.slug, url, needs_key=not found.is_public),
    }
    return show(request, "dashboard/connect.html", context)


def public(request: HttpRequest, tenant: str, server: str) -> HttpResponse:
    """A public server's page. For any other name the answer is the same whether it exists or not."""
    try:
        page = public_server(tenant, server)
    except NotFound:
        if request.user.is_authenticated:
            return redirect("dashboard:connect", tenant, server)
        return redirect_to_login(request.get_full_path())
    url = _endpoint(page.tenant, page.slug)
    return show(
        request,
        "public/server.html",
        {
            "page": page,
            "url": url,
            "parts": list(_parts(page.manifest)),
            "clients": clients(page.slug, url, needs_key=False),
        },
    )


@dataclass(frozen=True, slots=True)
class Part:
    """What a server has of one kind: pairs of name and description, and how many more there are."""

    title: str
    shown: list[tuple[str, str]]
    more: int


def _parts(manifest: dict[str, Any]) -> Iterator[Part]:
    for section, (title, key) in _SECTIONS.items():
        rows = [
            (part[key], part.get("description") or part.get("title") or "")
            for part in manifest.get(section, [])
            if part.get("enabled", True)
        ]
        if rows:
            yield Part(title, rows[:MOST_SHOWN], max(0, len(rows) - MOST_SHOWN))
