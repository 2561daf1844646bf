"""Resources, resource templates and prompts of a server's draft."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from mooring.dashboard.forms.content import (
    ArgumentForm,
    ArgumentRows,
    MessageRows,
    PromptForm,
    RemoteForm,
    RemotePromptForm,
    RemoteResourceForm,
    RemoteTemplateForm,
    ResourceForm,
    RowForm,
    TemplateForm,
)
from mooring.dashboard.forms.problems import attempt
from mooring.dashboard.forms.remembering import CacheForm
from mooring.dashboard.forms.rows import RowSet, filled, longer, wants_row
from mooring.dashboard.gate import tenant_page
from mooring.dashboard.pages import page_of, show
from mooring.dashboard.requests import PageRequest, posted
from mooring.dashboard.views.servers import server_context
from servers.access import get_prompt, get_resource, get_server, get_template
from servers.models import DraftRow, Prompt, Resource, ResourceTemplate, Server
from servers.services import delete_row, save_prompt, save_resource, save_template
from servers.services.kinds import kind_of
from tenants.access import Access


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the three kinds of rows: its word in URLs and for people, and what reads and writes it."""

    word: str
    noun: str
    title: str
    model: type[DraftRow]
    form: type[Any]
    remote_form: type[RemoteForm]
    get: Callable[..., Any]
    save: Callable[..., Any]


_RESOURCES = Kind(
    "resources",
    "resource",
    "Resources",
    Resource,
    ResourceForm,
    RemoteResourceForm,
    get_resource,
    save_resource,
)
_TEMPLATES = Kind(
    "templates",
    "resource template",
    "Resource templates",
    ResourceTemplate,
    TemplateForm,
    RemoteTemplateForm,
    get_template,
    save_template,
)
_PROMPTS = Kind("prompts", "prompt", "Prompts", Prompt, PromptForm, RemotePromptForm, get_prompt, save_prompt)
KINDS = {kind.word: kind for kind in (_RESOURCES, _TEMPLATES, _PROMPTS)}


def _kind(word: str) -> Kind:
    if word not in KINDS:
        raise Http404
    return KINDS[word]


@tenant_page("servers:read")
def overview(request: PageRequest, access: Access, server: str) -> HttpResponse:
    """All three kinds with their first rows."""
    found = get_server(access, server)
    groups = []
    for kind in KINDS.values():
        rows = kind.model._default_manager.filter(server=found)
        groups.append({"kind": kind, "rows": list(rows[:8]), "count": rows.count()})
    context = server_context(found, "content") | {
        "groups": groups,
        "is_empty": not any(g["count"] for g in groups),
    }
    return show(request, "dashboard/content.html", context)


@tenant_page("servers:read")
def index(request: PageRequest, access: Access, server: str, kind: str) -> HttpResponse:
    found, shown = get_server(access, server), _kind(kind)
    page = page_of(request, shown.model._default_manager.filter(server=found))
    return show(
        request,
        "dashboard/content_list.html",
        server_context(found, "content") | {"kind": shown, "page": page},
    )


@tenant_page("servers:write")
def new(request: PageRequest, access: Access, server: str, kind: str) -> HttpResponse:
    return _edit(request, access, get_server(access, server, "servers:write"), _kind(kind), None)


@tenant_page("servers:read")
def detail(request: PageRequest, access: Access, server: str, kind: str, row: UUID) -> HttpResponse:
    found, shown = get_server(access, server), _kind(kind)
    return _edit(request, access, found, shown, shown.get(access, found, row))


def _edit(request: PageRequest, access: Access, server: Server, kind: Kind, row: Any) -> HttpResponse:
    form, lists = _forms(request, kind, row)
    cache = _cache(request, form, row)
    if request.method == "POST":
        access.require("servers:write")
        # Every part is asked, so that every problem shows at once.
        parts: list[RowForm | RowSet | CacheForm] = [form, *lists.values(), *([cache] if cache else [])]
        valid = not {part.is_valid() for part in parts} - {True}
        if valid and not wants_row(request):
            definition = _definition(form, lists, row) | (cache.definition() if cache else {})
            saved = attempt(
                form, lambda: kind.save(server, actor=access.actor, row=row, definition=definition)
            )
            if saved is not None:
                messages.success(request, f"The {kind.noun} {saved.name} is saved in the draft.")
                return redirect("dashboard:content_row", access.tenant.slug, server.slug, kind.word, saved.id)
    is_refused = request.method == "POST" and not wants_row(request)
    context = server_context(server, "content") | {
        "kind": kind,
        "row": row,
        "form": form,
        "cache": cache,
        **lists,
    }
    return show(request, "dashboard/content_row.html", context, status=422 if is_refused else 200)


def _forms(request: PageRequest, kind: Kind, row: Any) -> tuple[RowForm, dict[str, RowSet]]:
    """The form, and for a prompt the rows of its arguments and messages."""
    if row is not None and row.remote:
        return kind.remote_form(posted(request), initial=kind.remote_form.initial_of(row)), {}
    is_prompt = kind.form is PromptForm
    if request.method == "POST":
        sets: dict[str, type[RowSet]] = {"arguments": ArgumentRows, "messages_rows": MessageRows}
        names = sets if is_prompt else {}
        return kind.form(request.POST), {
            name: longer(formset, request, prefix=name) for name, formset in names.items()
        }
    form = kind.form(initial=kind.form.initial_of(row) if row else None)
    if not is_prompt:
        return form, {}
    arguments = [ArgumentForm.initial_of(part) for part in (row.arguments if row else [])]
    return form, {
        "arguments": ArgumentRows(prefix="arguments", initial=arguments),
        "messages_rows": MessageRows(prefix="messages_rows", initial=row.messages if row else []),
    }


def _cache(request: PageRequest, form: RowForm, row: Any) -> CacheForm | None:
    if not isinstance(form, RemoteForm) or not form.is_remembered:
        return None
    return CacheForm(posted(request), initial=row.cache, prefix="cache")


def _definition(form: Any, lists: dict[str, RowSet], row: Any) -> dict[str, Any]:
    if isinstance(form, RemoteForm):
        return form.over(kind_of(row).definition_of(row))
    if not lists:
        found: dict[str, Any] = form.definition()
        return found
    found = form.base() | {"messages": filled(lists["messages_rows"])}
    arguments = filled(lists["arguments"])
    return found | {"arguments": arguments} if arguments else found


@require_POST
@tenant_page("servers:write")
def delete(request: PageRequest, access: Access, server: str, kind: str, row: UUID) -> HttpResponse:
    found, shown = get_server(access, server, "servers:write"), _kind(kind)
    gone = shown.get(access, found, row, "servers:write")
    delete_row(gone, actor=access.actor)
    messages.success(
        request, f"The {shown.noun} {gone.name} is out of the draft. Published versions keep it."
    )
    return redirect("dashboard:content_list", access.tenant.slug, found.slug, shown.word)
