"""API keys: listed, created (the secret is shown once), revoked."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from mooring.dashboard.forms.organisation import KeyForm
from mooring.dashboard.forms.problems import attempt
from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import page_of, show, status_of
from mooring.dashboard.requests import PageRequest, posted
from servers.access import list_servers
from tenants.access import Access, get_key, list_keys
from tenants.services import create_key, revoke_key


@tenant_page("keys:read")
def index(request: PageRequest, access: Access) -> HttpResponse:
    names = {str(server.id): server.slug for server in list_servers(access)}
    page = page_of(request, list_keys(access).order_by("-created_at", "-id"))
    rows = [(key, [names.get(server, "a deleted server") for server in key.servers]) for key in page]
    return show(request, "dashboard/keys.html", {"section": "keys", "page": page, "rows": rows})


@never_cache
@tenant_page("keys:write")
def new(request: PageRequest, access: Access) -> HttpResponse:
    servers = list(list_servers(access)[:500])
    form = KeyForm(posted(request), servers=servers, allowed=access.permissions)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        issued = attempt(
            form,
            lambda: create_key(
                access.tenant,
                name=data["name"],
                user=request.user,
                actor=access.actor,
                scopes=data["scopes"],
                servers=data["servers"],
                lifetime=form.chosen_lifetime,
            ),
        )
        if issued is not None:
            # Shown by this answer and by no other, so there is no redirect.
            reached = [one for one in servers if not issued.row.servers or str(one.id) in issued.row.servers]
            context = {"section": "keys", "key": issued.row, "secret": issued.secret, "servers": reached}
            return show(request, "dashboard/key_created.html", context)
    return show(request, "dashboard/new_key.html", {"section": "keys", "form": form}, status=status_of(form))


@require_POST
@tenant_page("keys:write")
def revoke(request: PageRequest, access: Access, key: UUID) -> HttpResponse:
    row = get_key(access, key)
    revoke_key(row, actor=access.actor)
    messages.success(
        request, f"The key {row.name} is revoked. No gateway accepts it any more within two seconds."
    )
    return redirect("dashboard:keys", access.tenant.slug)
