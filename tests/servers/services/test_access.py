"""The one road to a tenant's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mooring.errors import Forbidden, NotFound
from mooring.scope import tenant_scope
from tests.servers.services.conftest import EVERYTHING

if TYPE_CHECKING:
    from servers.models import Server
    from tests.conftest import World


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
