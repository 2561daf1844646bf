"""What bodies may take in memory, all together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mooring.scope import tenant_scope
from servers import services
from servers.gateway.request import Bodies, Disconnected, TooBusy
from tests.conftest import World
from tests.servers.conftest import GatewayDriver

ECHO = {
    "mooring": 1,
    "server": {"title": "Echo"},
    "tools": [{"name": "echo", "input_schema": {"type": "object"}, "static": {"kind": "echo"}}],
}


@pytest.fixture
def room(gateway: GatewayDriver) -> Iterator[Bodies]:
    """The gateway's, for at most a thousand bytes."""
    plane = gateway.app.plane
    kept, plane.bodies = plane.bodies, Bodies(most=1_000)
    yield plane.bodies
    plane.bodies = kept


@pytest.fixture
def echo(world: World, gateway: GatewayDriver) -> str:
    with tenant_scope(world.acme.id):
        server = services.create_server(world.acme, slug="echo", title="Echo", actor=world.actor)
        services.replace_draft(server, ECHO, actor=world.actor)
        services.publish(server, actor=world.actor)
    gateway.settle()
    return f"{world.acme.slug}/echo"


def message(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def arriving(bodies: Bodies, *messages: dict[str, Any]) -> bytes:
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return await bodies.read(receive, {}, 5_000)


def test_a_body_beyond_the_room_for_all_is_refused_until_there_is_room(
    gateway: GatewayDriver, room: Bodies, echo: str, key_of: Callable[..., str], world: World
) -> None:
    key = key_of(world.acme)
    small, large = {"text": "x"}, {"text": "x" * 1_000}
    assert gateway.call(echo, "echo", small, key=key)["structuredContent"] == small
    assert room.held == 0, "the room of an answered call was not given back"
    refused = gateway.modern(echo, "tools/call", {"name": "echo", "arguments": large}, key=key)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.error["data"]["code"] == "too_busy"
    assert gateway.call(echo, "echo", small, key=key)["structuredContent"] == small
    assert room.held == 0


async def test_bodies_that_are_still_arriving_are_counted() -> None:
    bodies = Bodies(most=1_000)
    slow = asyncio.create_task(arriving(bodies, message(b"x" * 900, more=True)))
    await asyncio.sleep(0)
    assert bodies.held == 900
    with pytest.raises(TooBusy):
        await arriving(bodies, message(b"x" * 200))
    assert bodies.held == 900, "what was refused takes no room"
    slow.cancel()
    await asyncio.wait({slow})
    assert bodies.held == 0, "a body that was never read to its end keeps its room"
    assert (
        await arriving(bodies, message(b"x" * 800, more=True), message(b"y" * 200)) == b"x" * 800 + b"y" * 200
    )
    assert bodies.held == 1_000
    bodies.release(1_000)


async def test_a_client_that_leaves_gives_its_room_back() -> None:
    bodies = Bodies(most=1_000)
    with pytest.raises(Disconnected):
        await arriving(bodies, message(b"x" * 900, more=True), {"type": "http.disconnect"})
    assert bodies.held == 0
