"""A server with something of everything, for tests of the gateway."""

from __future__ import annotations

from typing import Any

from mooring.scope import tenant_scope
from servers import services
from tests.conftest import World
from tests.servers.conftest import GatewayDriver

HANDSHAKES = ("2025-03-26", "2025-06-18", "2025-11-25")
MANIFEST: dict[str, Any] = {
    "mooring": 1,
    "server": {"title": "Desk", "instructions": "Be kind."},
    "tools": [
        {
            "name": "echo",
            "title": "Echo",
            "description": "Says it again",
            "input_schema": {
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
                "additionalProperties": False,
            },
            "annotations": {"readOnlyHint": True},
            "static": {"kind": "echo"},
        },
        {
            "name": "greet",
            "input_schema": {
                "type": "object",
                "properties": {"name": {"type": "string", "x-mcp-header": "Name"}},
                "required": ["name"],
            },
            "static": {"kind": "text", "text": "Hello {name}"},
        },
        {
            "name": "hidden",
            "enabled": False,
            "input_schema": {"type": "object"},
            "static": {"kind": "echo"},
        },
    ],
    "resources": [
        {"name": "rules", "uri": "handbook://rules", "mime_type": "text/plain", "text": "No running."},
        {"name": "dot", "uri": "handbook://dot", "mime_type": "image/png", "blob": "iVBORw0KGgo="},
    ],
    "resource_templates": [
        {
            "name": "person",
            "uri_template": "handbook://people/{who}",
            "text": "{who} works here.",
            "completions": {"who": ["ann", "anna", "bob"]},
        }
    ],
    "prompts": [
        {
            "name": "review",
            "description": "Review a text",
            "arguments": [{"name": "topic", "required": True, "completions": ["law", "lore"]}],
            "messages": [{"role": "user", "text": "Review {topic}."}],
        }
    ],
}


def published(world: World, gateway: GatewayDriver, manifest: dict[str, Any], **fields: Any) -> str:
    with tenant_scope(world.acme.id):
        server = services.create_server(world.acme, slug="desk", title="Desk", actor=world.actor, **fields)
        services.replace_draft(server, manifest, actor=world.actor)
        services.publish(server, actor=world.actor)
    gateway.settle()
    return f"{world.acme.slug}/desk"
