"""Callers behind proxies of ours are told apart; anybody else's word about where it is counts for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from mooring.scope import tenant_scope
from servers.gateway.app import Gateway
from servers.gateway.request import forwarded_for
from servers.pipeline import turned_away
from tenants.models import Plan
from tenants.services import change_plan
from tests.conftest import World
from tests.product.processes import echo, host
from tests.servers.conftest import GatewayDriver


def behind(gateway: GatewayDriver, settings: Any, proxies: int) -> GatewayDriver:
    """The same gateway, told that so many proxies stand in front of it."""
    settings.TRUSTED_PROXIES = proxies
    app = Gateway()
    app.plane = gateway.app.plane
    return GatewayDriver(gateway._loop, app)


def statuses(gateway: GatewayDriver, at: str, *forwarded: str) -> list[int]:
    return [gateway.modern(at, "tools/list", headers={"x-forwarded-for": said}).status for said in forwarded]


@pytest.fixture
def public(world: World, gateway: GatewayDriver) -> str:
    """A public server on which each stranger may make one call a minute."""
    at = host(world, echo("echo"), is_public=True)
    plan = Plan.objects.create(name=world.acme.slug, calls_per_minute=1_000, calls_per_minute_per_key=1)
    with tenant_scope(world.acme.id):
        change_plan(world.acme, plan=plan, actor=world.actor)
    gateway.settle()
    return at


def test_strangers_behind_a_proxy_have_limits_of_their_own(
    gateway: GatewayDriver, public: str, settings: Any
) -> None:
    two = behind(gateway, settings, 2)
    one, other = "203.0.113.1, 10.0.0.1", "203.0.113.2, 10.0.0.1"
    assert statuses(two, public, one, other, one, other) == [200, 200, 429, 429]
    # What its sender wrote is to the left of what our proxies wrote.
    assert statuses(two, public, f"198.51.100.7, {one}", "198.51.100.8") == [429, 200]


def test_without_proxies_of_ours_a_forged_address_changes_nothing(
    gateway: GatewayDriver, public: str, settings: Any
) -> None:
    bare = behind(gateway, settings, 0)
    assert statuses(bare, public, "203.0.113.1", "203.0.113.2", "203.0.113.3") == [200, 429, 429]


def test_refusals_are_counted_by_the_address_behind_the_proxy(
    gateway: GatewayDriver, public: str, settings: Any
) -> None:
    turned_away.register.take()
    assert statuses(behind(gateway, settings, 1), public, "203.0.113.9", "203.0.113.9") == [200, 429]
    assert ("203.0.113.9", "rate_limited") in turned_away.register.take().strangers


def test_addresses_on_several_lines_are_one_list() -> None:
    lines = [(b"x-forwarded-for", b"203.0.113.1"), (b"host", b"h"), (b"x-forwarded-for", b"10.0.0.1")]
    assert forwarded_for(lines) == "203.0.113.1,10.0.0.1"
