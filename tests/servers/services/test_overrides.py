"""Operational switches: set, changed, taken back, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from mooring.errors import InvalidInput, NotFound
from mooring.scope import tenant_scope

if TYPE_CHECKING:
    from servers.models import Server
    from tests.conftest import World


@pytest.fixture
def server(world: World) -> Iterator[Server]:
    from servers.services import create_server

    with tenant_scope(world.acme.id):
        yield create_server(world.acme, slug="search", title="Search", actor=world.actor)


def test_a_switch_is_set_changed_and_taken_back_and_each_is_audited(world: World, server: Server) -> None:
    from mooring.audit.models import AuditEvent
    from servers.services import active_overrides, clear_override, set_override

    set_override(server, actor=world.actor, kind="disable", tool="find", reason="broken")
    changed = set_override(server, actor=world.actor, kind="disable", tool="find", reason="still broken")
    assert [(one.tool, one.reason) for one in active_overrides(server)] == [("find", "still broken")]
    clear_override(changed, actor=world.actor)
    assert active_overrides(server) == []
    with pytest.raises(NotFound):
        clear_override(changed, actor=world.actor)
    actions = AuditEvent.objects.filter(tenant=world.acme, action__startswith="override.")
    assert list(actions.order_by("sequence").values_list("action", flat=True)) == [
        "override.set",
        "override.set",
        "override.cleared",
    ]


def test_a_switch_ends_by_itself(world: World, server: Server) -> None:
    from servers.models import Override
    from servers.services import active_overrides, set_override

    soon = timezone.now() + timedelta(hours=1)
    override = set_override(server, actor=world.actor, kind="disable", expires_at=soon)
    assert active_overrides(server) == [override]
    Override.objects.filter(id=override.id).update(expires_at=timezone.now())
    assert active_overrides(server) == []


@pytest.mark.parametrize(
    ("kind", "settings", "place"),
    [
        ("explode", {}, "kind"),
        ("disable", {"now": True}, "settings"),
        ("mock", {}, "settings"),
        ("mock", {"content": "text"}, "settings"),
        ("mock", {"content": [{"type": "image"}]}, "settings"),
        ("mock", {"structured": 1, "else": 2}, "settings"),
        ("mock", {"structured": "x" * 70_000}, "settings"),
        ("fault", {"error": "down"}, "share"),
        ("fault", {"share": 0, "error": "down"}, "share"),
        ("fault", {"share": True, "error": "down"}, "share"),
        ("fault", {"share": 2, "error": "down"}, "share"),
        ("fault", {"share": 1}, "settings"),
        ("fault", {"share": 1, "delay_ms": 60_000}, "delay_ms"),
        ("fault", {"share": 1, "error": ""}, "error"),
        ("fault", {"share": 1, "error": "down", "more": 1}, "settings"),
    ],
)
def test_a_switch_that_cannot_be_is_refused_with_its_place(
    world: World, server: Server, kind: str, settings: dict[str, Any], place: str
) -> None:
    from servers.services import active_overrides, set_override

    with pytest.raises(InvalidInput) as refused:
        set_override(server, actor=world.actor, kind=kind, settings=settings)
    assert place in refused.value.data["fields"]
    assert active_overrides(server) == []


def test_a_switch_does_not_end_in_the_past(world: World, server: Server) -> None:
    from servers.services import set_override

    with pytest.raises(InvalidInput, match="in the future"):
        set_override(server, actor=world.actor, kind="disable", expires_at=timezone.now())
