"""Tools, resources and prompts that come from elsewhere, on the pages of the draft."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from mooring.scope import tenant_scope
from servers import services
from servers.models import Server
from tests.mooring.dashboard.conftest import EVIL, errors_of, fields_of
from tests.mooring.dashboard.test_pages import faults_of

if TYPE_CHECKING:
    from django.test import Client

    from tests.mooring.dashboard.conftest import Stage

DIGEST = "a" * 64
SCHEMA = {"type": "object", "properties": {"text": {"type": "string", "description": f"\u202e{EVIL}"}}}
MANIFEST: dict[str, Any] = {
    "mooring": 1,
    "server": {"title": "Far"},
    "upstreams": {"peer": {"url": "https://far.example/mcp"}},
    "tools": [
        {
            "name": "echo",
            "description": EVIL,
            "input_schema": SCHEMA,
            "output_schema": {"type": "object"},
            "annotations": {"readOnlyHint": True},
            "remote": {"upstream": "peer", "name": "far echo", "digest": DIGEST},
        }
    ],
    "resources": [
        {
            "name": "map",
            "uri": "far://map",
            "remote": {"upstream": "peer", "uri": "far://map", "digest": DIGEST},
        }
    ],
    "resource_templates": [
        {
            "name": "city",
            "uri_template": "far://city/{name}",
            "remote": {"upstream": "peer", "digest": DIGEST},
        }
    ],
    "prompts": [
        {
            "name": "brief",
            "arguments": [{"name": "topic", "required": True}],
            "remote": {"upstream": "peer", "name": "brief", "digest": DIGEST},
        }
    ],
}


@pytest.fixture
def far(stage: Stage) -> Server:
    with tenant_scope(stage.world.acme.id):
        made: Server = services.create_server(
            stage.world.acme, slug="far", title="Far", actor=stage.world.actor
        )
        services.replace_draft(made, MANIFEST, actor=stage.world.actor)
    return made


@pytest.fixture
def pages(stage: Stage, far: Server) -> dict[str, str]:
    """Addresses of the page of each row."""
    here = f"{stage.base}servers/far/"
    with tenant_scope(stage.world.acme.id):
        return {
            "tool": f"{here}tools/{far.tools.get().id}/",
            "resources": f"{here}content/resources/{far.resources.get().id}/",
            "templates": f"{here}content/templates/{far.resourcetemplates.get().id}/",
            "prompts": f"{here}content/prompts/{far.prompts.get().id}/",
        }


@pytest.fixture
def draft(stage: Stage, far: Server) -> Callable[[], dict[str, Any]]:
    def read() -> dict[str, Any]:
        with tenant_scope(stage.world.acme.id):
            return services.draft_manifest(Server.objects.get(id=far.id))

    return read


def test_every_page_of_a_server_shows_remote_rows_cleanly(
    stage: Stage, alice: Client, pages: dict[str, str]
) -> None:
    here = f"{stage.base}servers/far/"
    around = [
        "",
        "tools/",
        "content/",
        "content/prompts/",
        "versions/",
        "secrets/",
        "settings/",
        "playground/",
    ]
    for page in (
        *pages.values(),
        *(here + name for name in around),
        f"{here}upstreams/",
        f"{here}upstream/peer/",
    ):
        assert faults_of(alice.get(page)) == [], page
    for page in (*pages.values(), f"{here}tools/", f"{here}content/"):
        assert "peer" in alice.get(page).content.decode()


def test_saving_a_remote_row_unchanged_changes_nothing(
    alice: Client, pages: dict[str, str], draft: Callable[[], dict[str, Any]]
) -> None:
    before = draft()
    for page in pages.values():
        answer = alice.post(page, fields_of(alice.get(page).content.decode()))
        assert answer.status_code == 302, errors_of(answer)
    assert draft() == before


def test_a_remote_tool_is_renamed_described_anew_remembered_and_disabled(
    alice: Client, pages: dict[str, str], draft: Callable[[], dict[str, Any]]
) -> None:
    text = alice.get(pages["tool"]).content.decode()
    assert "to call <code>far echo</code>" in text
    assert "Hidden characters in input_schema.properties.text.description" in text
    assert 'name="url"' not in text
    changed = fields_of(text) | {
        "name": "say",
        "description": "Says it.",
        "timeout_seconds": "5",
        "cache-seconds": "60",
        "cache-stale_seconds": "600",
        "cache-shared": "on",
    }
    del changed["is_enabled"]
    answer = alice.post(pages["tool"], changed)
    assert answer.status_code == 302, errors_of(answer)
    (tool,) = draft()["tools"]
    was = MANIFEST["tools"][0]
    assert tool == was | {
        "name": "say",
        "description": "Says it.",
        "remote": was["remote"] | {"timeout_seconds": 5},
        "cache": {"seconds": 60, "stale_seconds": 600, "shared": True},
        "enabled": False,
    }


def test_only_a_tool_that_only_reads_is_remembered(alice: Client, pages: dict[str, str]) -> None:
    fields = fields_of(alice.get(pages["tool"]).content.decode())
    refused = alice.post(pages["tool"], fields | {"readOnlyHint": "", "cache-seconds": "60"})
    assert refused.status_code == 422
    assert "readOnlyHint" in refused.content.decode()


def test_an_http_tool_keeps_what_is_remembered_of_it(stage: Stage, alice: Client) -> None:
    page = f"{stage.here}tools/{stage.tool}/"
    fields = fields_of(alice.get(page).content.decode())
    assert alice.post(page, fields | {"cache-seconds": "1.5"}).status_code == 302
    again = fields_of(alice.get(page).content.decode())
    assert again["cache-seconds"] == "1.5"


@pytest.mark.parametrize("kind", ["resources", "templates"])
def test_a_remote_resource_is_remembered_until_the_form_says_otherwise(
    alice: Client, pages: dict[str, str], draft: Callable[[], dict[str, Any]], kind: str
) -> None:
    section = {"resources": "resources", "templates": "resource_templates"}[kind]
    fields = fields_of(alice.get(pages[kind]).content.decode())
    wanted = {"cache-seconds": "60", "cache-stale_seconds": "600", "cache-shared": "on"}
    assert alice.post(pages[kind], fields | wanted).status_code == 302
    (row,) = draft()[section]
    assert row["cache"] == {"seconds": 60, "stale_seconds": 600, "shared": True}
    again = fields_of(alice.get(pages[kind]).content.decode())
    assert again["cache-stale_seconds"] == "600"
    assert alice.post(pages[kind], again | {"cache-seconds": ""}).status_code == 302
    assert draft()[section] == MANIFEST[section]
    refused = alice.post(pages[kind], again | {"cache-seconds": "never"})
    assert refused.status_code == 422


def test_a_remote_prompt_is_renamed_and_keeps_its_arguments(
    alice: Client, pages: dict[str, str], draft: Callable[[], dict[str, Any]]
) -> None:
    page = pages["prompts"]
    fields = fields_of(alice.get(page).content.decode())
    assert alice.post(page, fields | {"name": "summary"}).status_code == 302
    assert draft()["prompts"] == [MANIFEST["prompts"][0] | {"name": "summary"}]
