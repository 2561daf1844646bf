"""Drafts: every part is kept, what is wrong is refused, every change is recorded once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from mooring.errors import Conflict, InvalidInput
from tests.servers.services.conftest import EVERYTHING, TOOL, announced, last_event

if TYPE_CHECKING:
    from servers.models import Server
    from tests.conftest import World


def test_a_draft_holds_every_part_of_a_manifest_without_loss(filled: Server) -> None:
    from servers.services import draft_manifest

    assert draft_manifest(filled) == EVERYTHING


@pytest.mark.parametrize("template", ["weather", "handbook", "echo"])
def test_every_template_becomes_a_server_that_publishes(acme: World, template: str) -> None:
    from servers import manifests
    from servers.services import TEMPLATES, create_from_template, draft_manifest, publish

    made = create_from_template(acme.acme, template=template, slug=template, actor=acme.actor)
    assert draft_manifest(made) == manifests.check(TEMPLATES[template].manifest)
    assert publish(made, actor=acme.actor).number == "1.0.0"


def test_rows_that_stay_keep_their_ids_when_a_draft_is_replaced(acme: World, filled: Server) -> None:
    from servers.models import Resource, Tool
    from servers.services import draft_manifest, replace_draft

    tool = Tool.objects.get(server=filled, name="find")
    new = json.loads(json.dumps(EVERYTHING))
    new["tools"] = [
        {"name": "new", **{k: v for k, v in TOOL.items() if k != "name"}},
        *reversed(new["tools"]),
    ]
    new["tools"][2]["description"] = "Changed."
    new["resources"] = list(reversed(new["resources"]))[:1]
    replace_draft(filled, new, actor=acme.actor)
    assert draft_manifest(filled) == new
    assert Tool.objects.get(server=filled, name="find").id == tool.id
    assert Resource.objects.filter(server=filled).count() == 1


def test_replacing_a_draft_says_what_changed_and_the_same_again_nothing(acme: World, filled: Server) -> None:
    from servers.services import replace_draft

    number = filled.draft_number
    new = EVERYTHING | {"tools": EVERYTHING["tools"][:1]}
    replace_draft(filled, new, actor=acme.actor)
    event = last_event(acme)
    assert event.action == "draft.replaced"
    assert event.after["changes"] == ["The tool off, which is switched off, changed."]
    assert filled.draft_number == number + 1
    replace_draft(filled, new, actor=acme.actor)
    assert last_event(acme).sequence == event.sequence
    assert filled.draft_number == number + 1


def test_a_draft_is_replaced_whole_or_not_at_all(acme: World, filled: Server) -> None:
    from servers.services import draft_manifest, replace_draft

    with pytest.raises(InvalidInput):
        replace_draft(filled, EVERYTHING | {"tools": [TOOL, TOOL]}, actor=acme.actor)
    assert draft_manifest(filled) == EVERYTHING


def test_a_saved_tool_is_recorded_counted_and_announced(acme: World, server: Server) -> None:
    from servers.services import save_tool, update_server

    update_server(server, actor=acme.actor, variables=EVERYTHING["variables"])
    seen = announced(server)
    tool = save_tool(server, actor=acme.actor, tool=None, definition=TOOL)
    assert (last_event(acme).action, last_event(acme).target_name) == ("tool.created", "search/find")
    assert (server.draft_number, announced(server)) == (3, seen + 1)
    save_tool(server, actor=acme.actor, tool=tool, definition=TOOL | {"title": "Find"})
    event = last_event(acme)
    assert (event.action, event.before, event.after) == ("tool.changed", {"title": ""}, {"title": "Find"})
    save_tool(server, actor=acme.actor, tool=tool, definition=TOOL | {"title": "Find"})
    assert last_event(acme).sequence == event.sequence


def test_a_secret_a_tool_names_is_asked_for(acme: World, server: Server) -> None:
    from servers.services import missing_secrets, save_tool, set_secret, update_server

    update_server(server, actor=acme.actor, variables=EVERYTHING["variables"])
    save_tool(server, actor=acme.actor, tool=None, definition=TOOL)
    assert server.secrets_needed == {"token": {}}
    assert missing_secrets(server) == ["token"]
    set_secret(server, name="token", value="s3cret", actor=acme.actor)
    assert missing_secrets(server) == []


def test_two_tools_cannot_have_one_name(acme: World, filled: Server) -> None:
    from servers.models import Tool
    from servers.services import save_tool

    with pytest.raises(Conflict, match="already"):
        save_tool(filled, actor=acme.actor, tool=None, definition=TOOL)
    off = Tool.objects.get(server=filled, name="off")
    with pytest.raises(Conflict, match="already"):
        save_tool(filled, actor=acme.actor, tool=off, definition=TOOL)


def test_a_tool_that_breaks_header_mirroring_is_neither_saved_nor_published(
    acme: World, filled: Server
) -> None:
    from servers.models import Tool
    from servers.services import publish, save_tool

    schema = {"type": "object", "properties": {"q": {"type": "number", "x-mcp-header": "Q"}}}
    with pytest.raises(InvalidInput, match="x-mcp-header"):
        save_tool(
            filled, actor=acme.actor, tool=None, definition=TOOL | {"name": "bad", "input_schema": schema}
        )
    Tool.objects.filter(server=filled, name="find").update(input_schema=schema)
    with pytest.raises(InvalidInput, match="x-mcp-header"):
        publish(filled, actor=acme.actor)


def test_resources_templates_and_prompts_are_saved_changed_and_deleted(acme: World, server: Server) -> None:
    from servers.services import delete_row, draft_manifest, save_prompt, save_resource, save_template

    saves: list[tuple[str, Callable[..., Any]]] = [
        ("resources", save_resource),
        ("resource_templates", save_template),
        ("prompts", save_prompt),
    ]
    for section, save in saves:
        definition = EVERYTHING[section][0]
        row = save(server, actor=acme.actor, row=None, definition=definition)
        save(server, actor=acme.actor, row=row, definition=definition | {"title": "Renamed"})
        assert draft_manifest(server)[section] == [definition | {"title": "Renamed"}]
        delete_row(row, actor=acme.actor)
        assert section not in draft_manifest(server)
        assert last_event(acme).before["title"] == "Renamed"


def test_switching_a_tool_off_twice_is_recorded_once(acme: World, filled: Server) -> None:
    from servers.models import Tool
    from servers.services import set_tool_enabled

    tool = Tool.objects.get(server=filled, name="find")
    set_tool_enabled(tool, enabled=False, actor=acme.actor)
    event = last_event(acme)
    assert (event.action, event.after) == ("tool.disabled", {"enabled": False})
    set_tool_enabled(tool, enabled=False, actor=acme.actor)
    assert last_event(acme).sequence == event.sequence
