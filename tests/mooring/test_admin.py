"""Staff see all tenants and change them through the same services, with the same audit log."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from mooring.audit.models import AuditEvent
from mooring.scope import tenant_scope
from servers import services
from servers.models import Server, Tool
from servers.services.kinds import TOOL
from tenants.models import Tenant
from tests.conftest import World, verified_user


@pytest.fixture
def staff(world: World, client_of: Callable[..., Client]) -> Client:
    user = verified_user(f"staff@{world.acme.slug}.example")
    user.is_staff = user.is_superuser = True
    user.save(update_fields=["is_staff", "is_superuser"])
    return client_of(user)


@pytest.fixture
def tool(world: World) -> Tool:
    with tenant_scope(world.acme.id):
        services.create_from_template(world.acme, template="echo", slug="echo", actor=world.actor)
        return Tool.objects.select_related("server").filter(name="echo")[0]


def actions(world: World) -> list[tuple[str, str]]:
    with tenant_scope(world.acme.id):
        return list(AuditEvent.objects.values_list("actor_kind", "action")[:1])


PAGES = "tenant plan user membership apikey server tool version channel auditevent callrecord job".split()
APPS = {
    "user": "accounts",
    "server": "servers",
    "tool": "servers",
    "version": "servers",
    "channel": "servers",
    "auditevent": "audit",
    "callrecord": "servers",
    "job": "jobs",
}


@pytest.mark.parametrize("page", PAGES)
def test_every_list_opens_and_can_be_searched(staff: Client, tool: Tool, page: str) -> None:
    path = f"/admin/{APPS.get(page, 'tenants')}/{page}/"
    assert staff.get(path).status_code == 200
    assert staff.get(path, {"q": "acme"}).status_code == 200


def test_the_front_page_opens_for_staff_alone(
    staff: Client, world: World, client_of: Callable[..., Client]
) -> None:
    assert staff.get("/admin/").status_code == 200
    assert Client().get("/admin/")["Location"].startswith("/admin/login/")
    assert Client().get("/admin/login/?next=/admin/")["Location"].startswith("/accounts/login/")
    assert client_of(world.alice).get("/admin/", follow=True).status_code == 403


def test_a_tool_is_changed_through_the_service(staff: Client, world: World, tool: Tool) -> None:
    path = f"/admin/servers/tool/{tool.id}/change/"
    assert staff.get(path).status_code == 200
    remembers = {"seconds": 60}
    with tenant_scope(world.acme.id):
        definition = TOOL.definition_of(tool) | {"cache": remembers, "annotations": {"readOnlyHint": True}}
        services.save_tool(tool.server, tool=tool, definition=definition, actor=world.actor)
    form = {
        "name": tool.name,
        "title": "Say it again",
        "description": tool.description,
        "input_schema": '{"type": "object"}',
        "output_schema": "",
        "annotations": '{"readOnlyHint": true}',
        "binding": '{"static": {"kind": "echo"}}',
        "is_enabled": "on",
    }
    assert staff.post(path, form).status_code == 302
    with tenant_scope(world.acme.id):
        saved = Tool.objects.filter(id=tool.id)[0]
        assert (saved.title, saved.cache) == ("Say it again", remembers)
    assert actions(world) == [("staff", "tool.changed")]
    refused = staff.post(path, form | {"binding": '{"static": {"kind": "dance"}}'})
    assert refused.status_code == 200
    assert b"kind" in refused.content


def test_a_tenant_is_suspended_and_resumed(staff: Client, world: World) -> None:
    path = "/admin/tenants/tenant/"
    for action, is_suspended in (("suspend", True), ("resume", False)):
        staff.post(path, {"action": action, "_selected_action": [str(world.acme.id)]})
        assert (Tenant.objects.filter(id=world.acme.id)[0].suspended_at is not None) is is_suspended
    assert actions(world) == [("staff", "tenant.resumed")]


def test_deleting_a_server_ends_it_and_keeps_its_name_taken(staff: Client, world: World, tool: Tool) -> None:
    staff.post(f"/admin/servers/server/{tool.server_id}/delete/", {"post": "yes"})
    with tenant_scope(world.acme.id):
        assert Server.objects.filter(id=tool.server_id)[0].deleted_at is not None
    assert actions(world) == [("staff", "server.deleted")]
