"""Servers, drafts, versions, secrets and imports: what is kept, what is refused, what the data plane is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from mooring.errors import Conflict, Forbidden, InvalidInput, NotFound
from mooring.scope import tenant_scope

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


# ---- servers ---------------------------------------------------------------------------------------------


def test_a_new_server_is_recorded_and_announced(acme: World, server: Server) -> None:
    event = last_event(acme)
    assert (event.action, event.target_name, event.before) == ("server.created", "search", None)
    assert event.after == {"slug": "search", "title": "Search", "is_public": False}
    assert announced(server) == 1


@pytest.mark.parametrize(
    ("slug", "title"), [("Not A Slug", "x"), ("admin", "x"), ("ok", ""), ("ok", "x" * 121)]
)
def test_a_server_with_a_bad_name_or_title_is_refused(acme: World, slug: str, title: str) -> None:
    from servers.services import create_server

    with pytest.raises(InvalidInput):
        create_server(acme.acme, slug=slug, title=title, actor=acme.actor)


def test_the_slug_of_a_deleted_server_is_never_given_out_again(acme: World, server: Server) -> None:
    from servers.services import create_server, delete_server

    delete_server(server, actor=acme.actor)
    with pytest.raises(Conflict, match="taken"):
        create_server(acme.acme, slug="search", title="Again", actor=acme.actor)


def test_another_organisation_may_use_the_same_slug(acme: World, server: Server) -> None:
    from servers.services import create_server

    with tenant_scope(acme.globex.id):
        assert create_server(acme.globex, slug="search", title="Theirs", actor=acme.actor).slug == server.slug


def test_the_plan_bounds_the_number_of_servers(acme: World, server: Server) -> None:
    from servers.services import create_server, delete_server
    from tenants.models import Plan

    acme.acme.plan = Plan.objects.create(name=f"tiny-{acme.acme.slug}", servers=1)
    acme.acme.save(update_fields=["plan"])
    with pytest.raises(Conflict, match="plan allows 1"):
        create_server(acme.acme, slug="second", title="Second", actor=acme.actor)
    delete_server(server, actor=acme.actor)
    create_server(acme.acme, slug="second", title="Second", actor=acme.actor)


def test_only_what_changed_is_recorded(acme: World, server: Server) -> None:
    from servers.services import update_server

    update_server(server, actor=acme.actor, title="Find", description="", is_public=True)
    event = last_event(acme)
    assert event.before == {"title": "Search", "is_public": False}
    assert event.after == {"title": "Find", "is_public": True}
    assert (server.title, server.is_public, server.draft_number) == ("Find", True, 2)


def test_a_change_of_nothing_leaves_no_trace(acme: World, server: Server) -> None:
    from servers.services import update_server

    before = last_event(acme).sequence
    update_server(server, actor=acme.actor, title="Search", is_public=False)
    assert last_event(acme).sequence == before
    assert announced(server) == 1


def test_a_variable_in_use_cannot_be_taken_away(acme: World, filled: Server) -> None:
    from servers.services import update_server

    with pytest.raises(InvalidInput, match="base_url"):
        update_server(filled, actor=acme.actor, variables={})


def test_a_deleted_server_cannot_be_changed(acme: World, filled: Server) -> None:
    from servers.models import Secret
    from servers.services import delete_server, publish, save_tool, secrets_of, set_secret

    set_secret(filled, name="token", value="s3cret", actor=acme.actor)
    delete_server(filled, actor=acme.actor)
    assert last_event(acme).action == "server.deleted"
    assert not Secret.objects.filter(server=filled).exists()
    assert secrets_of(filled) == {}
    for change in (
        lambda: save_tool(filled, actor=acme.actor, tool=None, definition=TOOL),
        lambda: publish(filled, actor=acme.actor),
        lambda: set_secret(filled, name="token", value="x", actor=acme.actor),
        lambda: delete_server(filled, actor=acme.actor),
    ):
        with pytest.raises(NotFound):
            change()


# ---- drafts ----------------------------------------------------------------------------------------------


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
    set_secret(server, name="token", value="abc", actor=acme.actor)
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


# ---- versions --------------------------------------------------------------------------------------------


def live(server: Server) -> str:
    from servers.models import Channel

    return str(Channel.objects.get(server=server, name="live").version.number)


def test_a_version_is_frozen_numbered_and_live(acme: World, filled: Server) -> None:
    from servers import manifests
    from servers.services import publish

    version = publish(filled, actor=acme.actor, notes="First.")
    assert (version.number, version.ordinal, version.author) == ("1.0.0", 1, acme.alice.email)
    assert version.manifest == EVERYTHING
    assert version.digest == manifests.digest(EVERYTHING)
    assert live(filled) == "1.0.0"
    assert last_event(acme).after == {"live": "1.0.0", "digest": version.digest, "notes": "First."}


def test_a_version_stays_as_it_is_while_the_draft_goes_on(acme: World, filled: Server) -> None:
    from servers.models import Tool
    from servers.services import delete_row, publish

    first = publish(filled, actor=acme.actor)
    delete_row(Tool.objects.get(server=filled, name="find"), actor=acme.actor)
    second = publish(filled, actor=acme.actor)
    first.refresh_from_db()
    assert first.manifest == EVERYTHING
    assert (second.number, second.ordinal, live(filled)) == ("2.0.0", 2, "2.0.0")


def test_publishing_nothing_new_is_refused(acme: World, filled: Server) -> None:
    from servers.services import publish

    publish(filled, actor=acme.actor)
    with pytest.raises(Conflict, match=r"Nothing changed since version 1\.0\.0"):
        publish(filled, actor=acme.actor)


def test_a_number_may_be_chosen_once(acme: World, filled: Server) -> None:
    from servers.services import publish, update_server

    assert publish(filled, actor=acme.actor, number="3.1.4").number == "3.1.4"
    update_server(filled, actor=acme.actor, title="Other")
    with pytest.raises(Conflict, match="exists"):
        publish(filled, actor=acme.actor, number="3.1.4")
    with pytest.raises(InvalidInput, match="three numbers"):
        publish(filled, actor=acme.actor, number="v4")
    assert publish(filled, actor=acme.actor).number == "3.1.5"


def test_a_proposed_number_is_never_one_that_exists(acme: World, filled: Server) -> None:
    from servers.services import publish, update_server

    for title, number in (("a", "2.0.0"), ("b", "1.0.0"), ("c", None)):
        update_server(filled, actor=acme.actor, title=title)
        version = publish(filled, actor=acme.actor, number=number)
    assert version.number == "2.0.1"


def test_rolling_back_moves_live_and_back_again(acme: World, filled: Server) -> None:
    from servers.services import publish, rollback, update_server

    first = publish(filled, actor=acme.actor)
    update_server(filled, actor=acme.actor, title="Other")
    second = publish(filled, actor=acme.actor)
    rollback(filled, first, actor=acme.actor)
    assert live(filled) == "1.0.0"
    event = last_event(acme)
    assert (event.action, event.before, event.after) == (
        "channel.moved",
        {"live": "1.0.1"},
        {"live": "1.0.0"},
    )
    rollback(filled, first, actor=acme.actor)
    assert last_event(acme).sequence == event.sequence
    rollback(filled, second, actor=acme.actor)
    assert live(filled) == "1.0.1"


def test_a_version_of_another_server_is_not_found(acme: World, filled: Server) -> None:
    from servers.services import create_server, publish, rollback

    other = create_server(acme.acme, slug="other", title="Other", actor=acme.actor)
    version = publish(other, actor=acme.actor)
    with pytest.raises(NotFound):
        rollback(filled, version, actor=acme.actor)


@pytest.mark.parametrize("channel", ["draft", "1live", "Live", ""])
def test_a_channel_with_a_bad_name_is_refused(acme: World, filled: Server, channel: str) -> None:
    from servers.services import publish

    with pytest.raises(InvalidInput, match="channel"):
        publish(filled, actor=acme.actor, channel=channel)


def test_a_channel_gives_its_own_values_to_declared_variables(acme: World, filled: Server) -> None:
    from servers.models import Channel
    from servers.services import publish, set_variables

    publish(
        filled, actor=acme.actor, channel="staging", variables={"base_url": "https://staging.example.com"}
    )
    channel = Channel.objects.get(server=filled, name="staging")
    assert channel.variables == {"base_url": "https://staging.example.com"}
    set_variables(filled, channel="staging", variables={"base_url": " "}, actor=acme.actor)
    channel.refresh_from_db()
    assert channel.variables == {}
    with pytest.raises(InvalidInput, match="no variable"):
        set_variables(filled, channel="staging", variables={"other": "x"}, actor=acme.actor)
    with pytest.raises(NotFound):
        set_variables(filled, channel="live", variables={}, actor=acme.actor)


def test_of_publishes_that_overlap_each_gets_its_number_and_the_last_is_live(world: World) -> None:
    """Each thread has a connection and a transaction of its own, so on PostgreSQL they truly meet."""
    from django.db import connections, transaction

    from servers.models import Version
    from servers.services import create_server, publish, save_tool

    with tenant_scope(world.acme.id):
        server = create_server(world.acme, slug="busy", title="Busy", actor=world.actor)
    start = threading.Barrier(4)
    failures: list[BaseException] = []

    def one(name: str) -> None:
        try:
            start.wait(10)
            # One transaction on both databases: else another may publish this tool first, and nothing be left.
            with tenant_scope(world.acme.id), transaction.atomic():
                tool = {"name": name, "input_schema": {"type": "object"}, "static": {"kind": "echo"}}
                save_tool(server, actor=world.actor, tool=None, definition=tool)
                publish(server, actor=world.actor, number=f"1.0.{name[-1]}")
        except BaseException as error:  # noqa: BLE001  # reported by the test, not lost in a thread
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=(f"tool{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with tenant_scope(world.acme.id):
        versions = list(Version.objects.filter(server=server).order_by("ordinal"))
        assert [version.ordinal for version in versions] == list(range(1, len(versions) + 1))
        assert live(server) == versions[-1].number
        assert len(versions[-1].manifest["tools"]) == 4


# ---- secrets ---------------------------------------------------------------------------------------------


def test_a_secret_is_sealed_and_never_recorded(acme: World, server: Server) -> None:
    from mooring.audit.models import AuditEvent
    from servers.models import Secret
    from servers.services import secrets_of, set_secret

    set_secret(server, name="token", value="hunter2-hunter2-hunter2\n", actor=acme.actor)
    row = Secret.objects.get(server=server)
    assert b"hunter2" not in bytes(row.ciphertext)
    assert row.last_four == "ter2"
    assert secrets_of(server) == {"token": "hunter2-hunter2-hunter2"}
    set_secret(server, name="token", value="short", actor=acme.actor)
    assert Secret.objects.get(server=server).last_four == ""
    assert secrets_of(server) == {"token": "short"}
    events = AuditEvent.objects.filter(tenant=acme.acme).values_list("before", "after", "target_name")
    assert "hunter2" not in str(list(events))
    assert last_event(acme).after == {"name": "token", "value": "***"}


def test_a_ciphertext_of_another_row_does_not_open(acme: World, server: Server) -> None:
    from mooring.errors import ServerError
    from servers.models import Secret
    from servers.services import secrets_of, set_secret

    set_secret(server, name="one", value="first", actor=acme.actor)
    set_secret(server, name="two", value="second", actor=acme.actor)
    Secret.objects.filter(name="two", server=server).update(
        ciphertext=Secret.objects.get(name="one", server=server).ciphertext
    )
    with pytest.raises(ServerError, match="Set it again"):
        secrets_of(server)


@pytest.mark.parametrize(
    ("name", "value"), [("", "x"), ("a b", "x"), ("a" * 65, "x"), ("ok", ""), ("ok", " \n"), ("ok", "x\x00")]
)
def test_a_secret_without_a_name_or_value_is_refused(
    acme: World, server: Server, name: str, value: str
) -> None:
    from servers.services import set_secret

    with pytest.raises(InvalidInput):
        set_secret(server, name=name, value=value, actor=acme.actor)


def test_a_removed_secret_is_missing_again(acme: World, filled: Server) -> None:
    from servers.services import delete_secret, missing_secrets, set_secret

    set_secret(filled, name="token", value="x", actor=acme.actor)
    delete_secret(filled, name="token", actor=acme.actor)
    assert missing_secrets(filled) == ["token"]
    with pytest.raises(NotFound):
        delete_secret(filled, name="token", actor=acme.actor)


# ---- access ----------------------------------------------------------------------------------------------


def test_eve_finds_nothing_of_acme_by_any_name_or_id(world: World) -> None:
    from servers import access
    from servers.models import Prompt, Resource, ResourceTemplate, Tool
    from servers.services import create_server, publish, replace_draft
    from tenants.access import member_access

    with tenant_scope(world.acme.id):
        server = create_server(world.acme, slug="search", title="Search", actor=world.actor)
        replace_draft(server, EVERYTHING, actor=world.actor)
        publish(server, actor=world.actor)
        ids = [
            model.objects.filter(server=server)[0].id for model in (Tool, Resource, ResourceTemplate, Prompt)
        ]
    with member_access(world.eve, world.globex.slug) as eve:
        for look in (
            lambda: access.get_server(eve, "search"),
            lambda: access.get_tool(eve, server, "find"),
            lambda: access.get_tool(eve, server, ids[0]),
            lambda: access.get_resource(eve, server, ids[1]),
            lambda: access.get_template(eve, server, ids[2]),
            lambda: access.get_prompt(eve, server, ids[3]),
            lambda: access.get_version(eve, server, "1.0.0"),
        ):
            with pytest.raises(NotFound):
                look()
        assert list(access.list_servers(eve)) == []
        assert not access.audit_events(eve).filter(action="version.published").exists()


def test_a_viewer_sees_and_may_not_change(world: World) -> None:
    from servers import access
    from servers.services import create_server
    from tenants.access import member_access

    with tenant_scope(world.acme.id):
        create_server(world.acme, slug="search", title="Search", actor=world.actor)
    with member_access(world.bob, world.acme.slug) as bob:
        assert access.get_server(bob, "search").title == "Search"
        for permission in ("servers:write", "servers:publish", "servers:delete", "secrets:write"):
            with pytest.raises(Forbidden):
                access.get_server(bob, "search", permission)
        with pytest.raises(Forbidden):
            access.audit_events(bob)


@pytest.mark.parametrize("name", ["", "no such", "a\x00b", "../x", "ü"])
def test_strange_names_are_not_found(acme: World, filled: Server, name: str) -> None:
    from servers import access
    from tenants.access import Access
    from tenants.permissions import ROLES

    alice = Access(acme.acme, acme.actor, ROLES["owner"], "owner")
    for look in (
        lambda: access.get_server(alice, name),
        lambda: access.get_tool(alice, filled, name),
        lambda: access.get_prompt(alice, filled, name),
        lambda: access.get_version(alice, filled, name),
        lambda: access.get_import(alice, name),
    ):
        with pytest.raises(NotFound):
            look()


def test_a_key_limited_to_one_server_sees_no_other(acme: World, filled: Server) -> None:
    from servers import access
    from servers.services import create_server
    from tenants.access import Access
    from tenants.permissions import ROLES

    other = create_server(acme.acme, slug="other", title="Other", actor=acme.actor)
    limited = Access(acme.acme, acme.actor, ROLES["owner"], "owner", frozenset({str(other.id)}))
    assert [server.slug for server in access.list_servers(limited)] == ["other"]
    assert access.get_server(limited, "other") == other
    with pytest.raises(NotFound):
        access.get_server(limited, "search")
    with pytest.raises(Forbidden, match="limited"):
        access.require_all_servers(limited)


# ---- imports ---------------------------------------------------------------------------------------------

DOCUMENT = """\
openapi: 3.1.0
info: {title: Pets, version: "1"}
servers: [{url: https://pets.example.com}]
components:
  securitySchemes: {key: {type: apiKey, in: header, name: X-Key}}
paths:
  /pets:
    get:
      operationId: listPets
      parameters: [{name: limit, in: query, schema: {type: integer}}]
      responses: {"200": {description: ok}}
    post:
      operationId: addPet
      security: [{key: []}]
      requestBody: {content: {application/json: {schema: {type: object, properties: {name: {type: string}}}}}}
      responses: {"201": {description: made}}
"""


@pytest.fixture
def imported(acme: World) -> Any:
    from servers.models import Import
    from servers.services import run_import, start_import

    started = start_import(acme.acme, actor=acme.actor, name="pets.yaml", document=DOCUMENT, url=None)
    run_import(started.id)
    return Import.objects.get(id=started.id)


def test_an_import_is_kept_recorded_and_queued(acme: World) -> None:
    from servers.services import start_import

    started = start_import(acme.acme, actor=acme.actor, name="pets.yaml", document=DOCUMENT, url=None)
    assert started.job is not None
    assert (started.job.kind, started.job.payload) == ("openapi.import", {"import": str(started.id)})
    assert last_event(acme).action == "import.started"


@pytest.mark.parametrize(
    ("document", "url"),
    [
        (None, None),
        ("a", "https://example.com/a"),
        ("  ", None),
        ("x\x00", None),
        (None, "file:///etc/passwd"),
    ],
)
def test_an_import_without_one_usable_source_is_refused(
    acme: World, document: str | None, url: str | None
) -> None:
    from servers.services import start_import

    with pytest.raises(InvalidInput):
        start_import(acme.acme, actor=acme.actor, name="x", document=document, url=url)


def test_a_read_import_becomes_a_server(acme: World, imported: Any) -> None:
    from servers.services import apply_import, draft_manifest, run_import

    operations = {operation["key"]: operation["name"] for operation in imported.result["operations"]}
    assert set(operations) == {"GET /pets", "POST /pets"}
    run_import(imported.id)
    server = apply_import(imported, actor=acme.actor, slug="pets")
    draft = draft_manifest(server)
    assert {tool["name"] for tool in draft["tools"]} == set(operations.values())
    assert len(draft["secrets"]) == 1
    assert (server.title, imported.server_id) == ("Pets", server.id)


def test_only_chosen_operations_and_their_secrets_are_taken(acme: World, imported: Any) -> None:
    from servers.services import apply_import, draft_manifest

    server = apply_import(imported, actor=acme.actor, slug="pets", title="My pets", chosen=["GET /pets"])
    draft = draft_manifest(server)
    assert (server.title, len(draft["tools"])) == ("My pets", 1)
    assert "secrets" not in draft
    for chosen in ([], ["GET /cats"]):
        with pytest.raises(InvalidInput):
            apply_import(imported, actor=acme.actor, slug="more", chosen=chosen)


def test_importing_into_a_server_replaces_its_tools_alone(acme: World, filled: Server, imported: Any) -> None:
    from servers.services import apply_import, draft_manifest

    apply_import(imported, actor=acme.actor, server=filled)
    draft = draft_manifest(filled)
    assert len(draft["tools"]) == 2
    assert "find" not in {tool["name"] for tool in draft["tools"]}
    for part in ("server", "resources", "resource_templates", "prompts"):
        assert draft[part] == EVERYTHING[part]


def test_an_import_that_was_not_read_cannot_be_applied(acme: World) -> None:
    from servers.services import apply_import, start_import

    started = start_import(acme.acme, actor=acme.actor, name="x", document=DOCUMENT, url=None)
    with pytest.raises(Conflict, match="not been read"):
        apply_import(started, actor=acme.actor, slug="pets")
