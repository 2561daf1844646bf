"""A server with every part of a manifest on its draft, and what a write leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from servers.models import Server
    from tests.conftest import World

Json = dict[str, Any]

TOOL: Json = {
    "name": "find",
    "description": "Find something.",
    "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
    "http": {
        "method": "GET",
        "url": "{base_url}/search",
        "parameters": [{"in": "query", "name": "q", "argument": "q"}],
        "constants": [{"in": "header", "name": "Authorization", "value": "Bearer {secret:token}"}],
    },
}
EVERYTHING: Json = {
    "mooring": 1,
    "server": {"title": "All", "description": "d", "instructions": "Do\nthis."},
    "variables": {"base_url": {"default": "https://api.example.com", "description": "where"}},
    "secrets": {"token": {"description": "from the console"}},
    "tools": [
        TOOL,
        {
            "name": "off",
            "title": "Off",
            "input_schema": {"type": "object", "$defs": {"b": {"maximum": 1.5}}},
            "output_schema": {},
            "annotations": {"readOnlyHint": True},
            "static": {"kind": "text", "text": "Hello"},
            "enabled": False,
        },
    ],
    "resources": [
        {"name": "a", "uri": "x://a", "text": "", "annotations": {"priority": 0.5}},
        {"name": "b", "uri": "x://b", "blob": "AAEC", "mime_type": "image/png"},
    ],
    "resource_templates": [
        {"name": "t", "uri_template": "x://t/{id}", "text": "{id}", "completions": {"id": ["1", "2"]}}
    ],
    "prompts": [
        {
            "name": "p",
            "arguments": [{"name": "who", "required": True, "completions": ["you"]}],
            "messages": [{"role": "user", "text": "Hi {who}"}, {"role": "assistant", "text": "Hi"}],
        }
    ],
}


@pytest.fixture
def acme(world: World) -> Iterator[World]:
    """Alice acts in Acme's scope."""
    from mooring.scope import tenant_scope  # conftests are read before there are settings

    with tenant_scope(world.acme.id):
        yield world


@pytest.fixture
def server(acme: World) -> Server:
    from servers.services import create_server

    return create_server(acme.acme, slug="search", title="Search", actor=acme.actor)


@pytest.fixture
def filled(acme: World, server: Server) -> Server:
    from servers.services import replace_draft

    replace_draft(server, EVERYTHING, actor=acme.actor)
    return server


def last_event(world: World) -> Any:
    from mooring.audit.models import AuditEvent

    return AuditEvent.objects.filter(tenant=world.acme).order_by("-sequence").first()


def announced(server: Server) -> int:
    from tenants.models import Change

    return Change.objects.filter(kind="server", ref=str(server.id)).count()
