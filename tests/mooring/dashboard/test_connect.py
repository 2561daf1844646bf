"""What is handed out to clients, and to whom."""

from __future__ import annotations

import base64
import json
import tomllib
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from mooring.dashboard.clients import KEY, clients
from mooring.dashboard.clients import Client as Snippet
from mooring.scope import tenant_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from tests.mooring.dashboard.conftest import Stage

URL = "https://mooring.example/t/acme/sky/mcp"


def _client(name: str, *, needs_key: bool = True) -> Snippet:
    return next(client for client in clients("sky", URL, needs_key=needs_key) if client.id == name)


@pytest.mark.parametrize("needs_key", [True, False])
def test_every_client_gets_the_url_and_a_key_only_where_it_needs_one(needs_key: bool) -> None:
    for client in clients("sky", URL, needs_key=needs_key):
        assert URL in client.code
        assert ("Bearer" in client.code + client.text or "bearer_token" in client.code) is needs_key
        assert (KEY in client.code + client.text) is needs_key or client.id == "vscode"


def test_the_link_for_cursor_holds_its_configuration_in_base64() -> None:
    link = urlsplit(_client("cursor").link)
    fields = parse_qs(link.query)
    assert (link.scheme, link.netloc, link.path) == ("cursor", "anysphere.cursor-deeplink", "/mcp/install")
    assert fields["name"] == ["sky"]
    assert json.loads(base64.b64decode(fields["config"][0])) == {
        "url": URL,
        "headers": {"Authorization": f"Bearer {KEY}"},
    }


def test_the_link_for_vs_code_holds_json_and_asks_for_the_key() -> None:
    scheme, _, rest = _client("vscode").link.partition("?")
    entry = json.loads(unquote(rest))
    assert scheme == "vscode:mcp/install"
    assert entry["name"] == "sky"
    assert entry["inputs"][0]["password"] is True


@pytest.mark.parametrize("needs_key", [True, False])
def test_snippets_are_well_formed(needs_key: bool) -> None:
    found = {client.id: client for client in clients("2-sky", URL, needs_key=needs_key)}
    for name in ("claude-desktop", "cursor", "vscode"):
        json.loads(found[name].code)
    assert tomllib.loads(found["codex"].code)["mcp_servers"]["2-sky"]["url"] == URL
    compile(found["python"].code, "snippet", "exec")


def test_a_public_server_is_shown_to_everybody_and_only_its_live_version(
    stage: Stage, client: Client, alice: Client
) -> None:
    from servers.access import get_server
    from servers.services import update_server
    from tenants.access import member_access

    with tenant_scope(stage.world.acme.id), member_access(stage.world.alice, stage.world.acme.slug) as access:
        server = get_server(access, "sky")
        update_server(server, actor=stage.world.actor, is_public=True, title="Unpublished words")
    page = client.get(f"/s/{stage.world.acme.slug}/sky").content.decode()
    assert "/t/" + stage.world.acme.slug + "/sky/mcp" in page
    assert "Unpublished words" not in page
    assert KEY not in page
    assert "<script>alert(1)" not in page


def test_a_public_server_lists_all_that_it_has(stage: Stage, client: Client, alice: Client) -> None:
    echo = {"input_schema": {"type": "object"}, "static": {"kind": "echo"}}
    whole = {
        "mooring": 1,
        "server": {"title": "Sky"},
        "tools": [{"name": f"tool_{n:03}", **echo} for n in range(103)]
        + [{"name": "off", "enabled": False, **echo}],
        "resources": [{"name": "Hours", "uri": "sky://hours", "text": "Always.", "description": "When"}],
        "resource_templates": [{"name": "city", "uri_template": "sky://{city}", "text": "{city}"}],
        "prompts": [{"name": "plan", "messages": [{"role": "user", "text": "Plan."}]}],
    }
    alice.post(f"{stage.here}versions/import/", {"document": json.dumps(whole)})
    alice.post(f"{stage.here}versions/", {"number": "2.0.0"})
    alice.post(f"{stage.here}settings/", {"title": "Sky", "is_public": "on"})
    page = client.get(f"/s/{stage.world.acme.slug}/sky").content.decode()
    for word in (
        "tool_099",
        "and 3 more",
        "sky://hours",
        "When",
        "sky://{city}",
        "Resource templates",
        "plan",
    ):
        assert word in page
    assert "tool_100" not in page
    assert ">off<" not in page


def test_private_and_missing_servers_answer_alike(
    stage: Stage, client: Client, client_of: Callable[..., Client]
) -> None:
    names = [
        f"/s/{stage.world.acme.slug}/sky",
        f"/s/{stage.world.acme.slug}/none",
        "/s/nobody/none",
        "/s/A/%00",
    ]
    assert {client.get(name).status_code for name in names} == {302}
    for name in names[:3]:
        assert client.get(name)["Location"] == f"/accounts/login/?next={name}"
    eve = client_of(stage.world.eve)
    assert [eve.get(name, follow=True).status_code for name in names[:3]] == [404, 404, 404]
    alice = client_of(stage.world.alice)
    assert alice.get(names[0])["Location"] == f"{stage.here}connect/"
