"""What pages say is missing, and what they propose to do next."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mooring.scope import tenant_scope
from tenants.services import add_member

if TYPE_CHECKING:
    from django.test import Client

    from tests.mooring.dashboard.conftest import Stage

PAGES = ("", "versions/", "playground/")


def test_a_variable_without_a_value_is_told_wherever_a_missing_secret_is(stage: Stage, alice: Client) -> None:
    def telling() -> list[str]:
        found = [alice.get(f"{stage.here}{page}").content.decode() for page in PAGES]
        return [page for page, text in zip(PAGES, found, strict=True) if "without a value: region." in text]

    assert telling() == []
    alice.post(f"{stage.here}secrets/variables/", {"name": "region"})
    assert telling() == list(PAGES)
    alice.post(f"{stage.here}versions/", {"number": "2.0.0"})
    alice.post(f"{stage.here}secrets/live/", {"value.region": "north", "value.base": ""})
    assert telling() == []


def test_people_are_offered_the_steps_that_they_may_take(
    stage: Stage, alice: Client, client_of: Callable[..., Client]
) -> None:
    with tenant_scope(stage.world.globex.id):
        add_member(stage.world.globex, user=stage.world.bob, role="viewer", actor=stage.world.actor)
    bob = client_of(stage.world.bob)
    assert "Connect a client" in alice.get(stage.base).content.decode()
    assert "New key" not in bob.get(stage.base).content.decode()
    empty = bob.get(f"/app/{stage.world.globex.slug}/").content.decode()
    for offer in ("What to do next", "New server", "New key", "servers/new/"):
        assert offer not in empty
    eve = client_of(stage.world.eve).get(f"/app/{stage.world.globex.slug}/").content.decode()
    for offer in ("Make a server", "Create an API key", "Connect a client"):
        assert offer in eve


def test_a_new_key_for_one_server_leads_to_the_connect_page_of_that_one(stage: Stage, alice: Client) -> None:
    made = alice.post(f"{stage.base}servers/new/tools/", {"name": "Aardvark", "slug": "aardvark"})
    assert made.status_code == 302
    asked = {"name": "k", "scopes": "servers:call", "lifetime": "30"}
    limited = alice.post(f"{stage.base}keys/new/", asked | {"servers": stage.server_id}).content.decode()
    assert f'href="{stage.here}connect/"' in limited
    assert "servers/aardvark/connect/" not in limited
    assert "/connect/" in alice.post(f"{stage.base}keys/new/", asked).content.decode()


def test_the_preview_follows_what_is_typed(stage: Stage, alice: Client) -> None:
    page = alice.get(f"{stage.here}tools/{stage.tool}/").content.decode()
    assert 'hx-trigger="click, input from:#tool-form delay:400ms"' in page
