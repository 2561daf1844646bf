"""Strangers and misfortunes: what the gateway does when changes cannot be read, and whom it tells of refusals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import time_machine
from channels.layers import get_channel_layer

from mooring.audit.models import AuditEvent
from mooring.audit.record import first_broken_link
from mooring.egress.session import session
from mooring.scope import tenant_scope
from servers import services
from servers.gateway.app import Gateway
from servers.gateway.wakeups import GROUP, Wakeups, announce_to_others
from servers.pipeline import turned_away
from servers.pipeline.directory import Directory
from servers.pipeline.parts import Runtimes
from servers.protocol.tokens import CURSOR_SECONDS
from servers.runtimes.upstreams import Upstreams
from tenants.models import Plan
from tenants.services import change_plan, create_key, revoke_key
from tests.conftest import World
from tests.servers.conftest import GatewayDriver

NOWHERE = "redis://127.0.0.1:1/0"
TOOLS = [
    {"name": f"t{n:03}", "input_schema": {"type": "object"}, "static": {"kind": "echo"}} for n in range(150)
]


def published(world: World, gateway: GatewayDriver, *, is_public: bool = False, **parts: Any) -> str:
    manifest = {"mooring": 1, "server": {"title": "Desk"}, "tools": TOOLS} | parts
    with tenant_scope(world.acme.id):
        server = services.create_server(
            world.acme, slug="desk", title="Desk", actor=world.actor, is_public=is_public
        )
        services.replace_draft(server, manifest, actor=world.actor)
        services.publish(server, actor=world.actor)
    gateway.settle()
    return f"{world.acme.slug}/desk"


# ---- changes that cannot be read -------------------------------------------------------------------------


@asynccontextmanager
async def deaf(app: Gateway) -> AsyncIterator[tuple[Gateway, Directory]]:
    """A gateway beside the other, which reads changes only when it is told to."""
    directory = Directory(Runtimes.over(Upstreams(session)))
    await directory.start()
    other = Gateway()
    assert app.plane is not None
    other.plane = replace(app.plane, directory=directory)
    try:
        yield other, directory
    finally:
        await asyncio.to_thread(directory.close)


def test_while_changes_cannot_be_read_no_credential_is_taken_and_public_servers_go_on(
    gateway: GatewayDriver, world: World, key_of: Callable[..., str]
) -> None:
    at, key = published(world, gateway, is_public=True), key_of(world.acme)
    beside = deaf(gateway.app)
    app, directory = gateway.run(beside.__aenter__())
    driver = GatewayDriver(gateway._loop, app)

    async def burn_the_fuse() -> None:
        directory._trust_since(time.monotonic() - 31)
        while not directory.is_blind:
            await asyncio.sleep(0)

    try:
        assert driver.modern(at, "tools/list", key=key).status == 200
        gateway.run(burn_the_fuse())
        refused = driver.modern(at, "tools/list", key=key)
        assert refused.status == 503
        assert refused.error["data"]["code"] == "changes_unavailable"
        assert refused.error["data"]["class"] == "server"
        assert int(refused.headers["retry-after"]) >= 1
        assert driver.modern(at, "tools/list").status == 200
        driver.settle()
        assert driver.modern(at, "tools/list", key=key).status == 200
    finally:
        gateway.run(beside.__aexit__(None, None, None))


# ---- cursors ---------------------------------------------------------------------------------------------


def test_a_cursor_is_good_for_its_principal_alone(
    gateway: GatewayDriver, world: World, key_of: Callable[..., str]
) -> None:
    at = published(world, gateway, is_public=True)
    mine, other = key_of(world.acme), key_of(world.acme)
    cursor = gateway.modern(at, "tools/list", key=mine).result["nextCursor"]
    for key in (other, key_of(world.globex), ""):
        error = gateway.modern(at, "tools/list", {"cursor": cursor}, key=key).error
        assert (error["code"], "not one of this list" in error["message"]) == (-32602, True)
    assert len(gateway.modern(at, "tools/list", {"cursor": cursor}, key=mine).result["tools"]) == 50
    session = gateway.session(at, "2025-11-25", key=other)
    assert session.request("tools/list", {"cursor": cursor}).error["code"] == -32602


def test_an_old_cursor_has_expired_and_says_so(
    gateway: GatewayDriver, world: World, key_of: Callable[..., str]
) -> None:
    at, key = published(world, gateway), key_of(world.acme)
    sealer = gateway.app.plane.sealer
    opened = sealer.open_cursor(gateway.modern(at, "tools/list", key=key).result["nextCursor"])
    fields = {name: getattr(opened, name) for name in ("server", "version", "kind", "offset", "principal")}
    for age, is_good in ((CURSOR_SECONDS - 60, True), (CURSOR_SECONDS + 1, False)):
        with time_machine.travel(time.time() - age):
            cursor = sealer.new_cursor(**fields)
        reply = gateway.modern(at, "tools/list", {"cursor": cursor}, key=key)
        if is_good:
            assert len(reply.result["tools"]) == 50
        else:
            assert reply.error["code"] == -32602
            assert reply.error["message"] == "This cursor has expired. Start again without a cursor."


# ---- templates -------------------------------------------------------------------------------------------


def test_many_alike_templates_are_read_by_ordinary_uris_and_refuse_those_made_to_slow_them(
    gateway: GatewayDriver, world: World, key_of: Callable[..., str]
) -> None:
    honest = [
        {"name": f"n{n}", "uri_template": f"api://{{tenant}}/things{n}/{{id}}", "text": f"{n} {{id}}"}
        for n in range(300)
    ]
    slow = [
        {"name": f"s{n}", "uri_template": "x:{+a}" + "a" * (400 + n) + "{+b}b{c}", "text": ""}
        for n in range(200)
    ]
    key = key_of(world.acme)
    at = published(world, gateway, resource_templates=honest + slow)
    read = gateway.modern(at, "resources/read", {"uri": "api://acme/things299/7"}, key=key).result
    assert read["contents"][0]["text"] == "299 7"
    refused = gateway.modern(at, "resources/read", {"uri": "x:" + "a" * 2_000}, key=key)
    assert (refused.error["code"], "shorter" in refused.error["message"]) == (-32602, True)


# ---- refusals --------------------------------------------------------------------------------------------


def audited(world: World) -> list[AuditEvent]:
    with tenant_scope(world.acme.id):
        assert first_broken_link(world.acme.id) is None
        return list(AuditEvent.objects.filter(action="calls.refused").order_by("sequence"))


def test_an_organisation_learns_of_refusals_of_its_own_principals_and_of_no_others(
    gateway: GatewayDriver, world: World, key_of: Callable[..., str]
) -> None:
    at = published(world, gateway)
    with tenant_scope(world.acme.id):
        issued = create_key(world.acme, name="old", user=world.alice, actor=world.actor)
        revoke_key(issued.row, actor=world.actor)
    gateway.settle()
    for _ in range(3):
        assert gateway.modern(at, "tools/list", key=issued.secret).status == 401
    assert gateway.modern(at, "tools/list", key=key_of(world.globex)).status == 404
    assert gateway.modern(f"{world.globex.slug}/none", "tools/list", key=key_of(world.acme)).status == 404
    assert gateway.modern(at, "tools/list").status == 401
    turned_away.write_down(turned_away.register.take())
    events = {(event.after["reason"], event.target_name): event for event in audited(world) if event.after}
    assert set(events) == {("invalid_credential", at), ("not_found", f"{world.globex.slug}/none")}
    revoked = events["invalid_credential", at]
    assert (revoked.actor_kind, revoked.actor_id, revoked.actor_name) == ("key", str(issued.row.id), "old")
    assert (revoked.ip, revoked.after["count"]) == ("127.0.0.1", 3)
    assert len(revoked.after["first_request"]) == 24
    with tenant_scope(world.globex.id):
        (foreign,) = AuditEvent.objects.filter(action="calls.refused")
    assert foreign.target_name == at


def test_a_public_server_s_organisation_learns_that_strangers_ask_too_much(
    gateway: GatewayDriver, world: World
) -> None:
    at = published(world, gateway, is_public=True)
    plan = Plan.objects.create(
        name=f"tiny-{world.acme.slug}", calls_per_minute=20, calls_per_minute_per_key=10
    )
    with tenant_scope(world.acme.id):
        change_plan(world.acme, plan=plan, actor=world.actor)
    gateway.settle()
    statuses = [gateway.modern(at, "tools/list").status for _ in range(4)]
    assert statuses[-1] == 429
    turned_away.write_down(turned_away.register.take())
    (event,) = audited(world)
    assert (event.actor_kind, event.after["reason"]) == ("anonymous", "rate_limited")
    assert event.after["count"] == statuses.count(429)


# ---- the bus ---------------------------------------------------------------------------------------------


def layers(backend: str, **config: Any) -> dict[str, Any]:
    return {"default": {"BACKEND": backend, "CONFIG": config}}


REDIS, MEMORY = "channels_redis.pubsub.RedisPubSubChannelLayer", "channels.layers.InMemoryChannelLayer"


def test_a_change_is_made_whether_others_can_be_told_or_not(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHANNEL_LAYERS = layers(REDIS, hosts=[NOWHERE])
    announce_to_others()
    assert [record.msg["event"] for record in caplog.records] == ["bus.untold"]


async def test_a_gateway_whose_bus_is_lost_listens_again(settings: Any) -> None:
    settings.REDIS_URL, settings.CHANNEL_LAYERS = NOWHERE, layers(REDIS, hosts=[NOWHERE])
    wakeups = Wakeups(retry_seconds=0.01)
    await wakeups.listen()
    try:
        async with asyncio.timeout(20):
            await asyncio.sleep(0.05)
            settings.CHANNEL_LAYERS = layers(MEMORY)
            while not wakeups._event.is_set():
                await get_channel_layer().group_send(GROUP, {"type": "changed"})
                await asyncio.sleep(0.01)
    finally:
        await wakeups.close()
