"""Servers as wholes: made, changed, deleted, and what is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mooring.errors import Conflict, InvalidInput, NotFound
from mooring.scope import tenant_scope
from tests.servers.services.conftest import TOOL, announced, last_event

if TYPE_CHECKING:
    from servers.models import Server
    from tests.conftest import World


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
        lambda: set_secret(filled, name="token", value="s3cret", actor=acme.actor),
        lambda: delete_server(filled, actor=acme.actor),
    ):
        with pytest.raises(NotFound):
            change()
