"""Operational switches as a caller meets them: at once, without a new version, and gone when taken back."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from mooring.scope import tenant_scope
from servers import services
from servers.models import Override, Server
from servers.pipeline.overriding import Switch, overridden
from servers.runtimes.base import Outcome, ToolCall, text_outcome
from tests.conftest import World
from tests.servers.conftest import GatewayDriver
from tests.servers.gateway.desk import MANIFEST, published


@pytest.fixture
def desk(world: World, gateway: GatewayDriver) -> str:
    return published(world, gateway, MANIFEST)


@pytest.fixture
def key(world: World, key_of: Callable[..., str]) -> str:
    return key_of(world.acme)


@pytest.fixture
def switch(world: World, gateway: GatewayDriver) -> Callable[..., Override]:
    """Sets an override on the desk and lets the gateway see it."""

    def set_one(**given: Any) -> Override:
        with tenant_scope(world.acme.id):
            server = Server.objects.get(slug="desk")
            override = services.set_override(server, actor=world.actor, **given)
        gateway.settle()
        return override

    return set_one


def test_a_disabled_tool_stays_listed_and_says_so(
    world: World, gateway: GatewayDriver, desk: str, key: str, switch: Callable[..., Override]
) -> None:
    override = switch(kind="disable", tool="echo")
    refused = gateway.call(desk, "echo", {"text": "hi"}, key=key)
    assert refused["isError"]
    assert "switched off" in refused["content"][0]["text"]
    listed = gateway.modern(desk, "tools/list", key=key).result
    assert "echo" in [tool["name"] for tool in listed["tools"]]
    with tenant_scope(world.acme.id):
        services.clear_override(override, actor=world.actor)
    gateway.settle()
    assert not gateway.call(desk, "echo", {"text": "hi"}, key=key).get("isError")


def test_a_mocked_tool_answers_what_was_written(
    gateway: GatewayDriver, desk: str, key: str, switch: Callable[..., Override]
) -> None:
    answer = {"content": [{"type": "text", "text": "mocked"}], "structured": {"text": "mocked"}}
    switch(kind="mock", tool="echo", settings=answer)
    result = gateway.call(desk, "echo", {"text": "hi"}, key=key)
    assert result["structuredContent"] == {"text": "mocked"}
    # Only the answer is made up: arguments are checked as ever.
    assert gateway.call(desk, "echo", {}, key=key)["isError"]


def test_a_fault_for_every_tool_hits_each_of_them(
    gateway: GatewayDriver, desk: str, key: str, switch: Callable[..., Override]
) -> None:
    switch(kind="fault", settings={"share": 1, "error": "The moon is full."})
    result = gateway.call(desk, "echo", {"text": "hi"}, key=key)
    assert result["isError"]
    assert result["content"][0]["text"] == "The moon is full."


class Counting:
    is_immediate = True

    def __init__(self) -> None:
        self.calls = 0

    async def call(self, call: ToolCall) -> Outcome:
        self.calls += 1
        return text_outcome("real")


CALL = ToolCall({}, 0.0, 1024)


async def test_a_fault_hits_about_its_share_of_the_calls() -> None:
    counting = Counting()
    faulty = overridden("echo", counting, [Switch("fault", "echo", {"share": 0.25, "error": "no"})])
    errors = sum([(await faulty.call(CALL)).is_error for _ in range(4_000)])
    assert 800 < errors < 1_200
    assert counting.calls == 4_000 - errors


async def test_a_delayed_call_goes_on_afterwards_and_counts_as_waiting() -> None:
    counting = Counting()
    slow = overridden("echo", counting, [Switch("fault", "", {"share": 1, "delay_ms": 20})])
    began = time.perf_counter()
    assert (await slow.call(CALL)).content[0]["text"] == "real"
    assert time.perf_counter() - began >= 0.02
    assert not slow.is_immediate


async def test_a_switch_for_the_tool_goes_before_one_for_every_tool_and_disabled_wins() -> None:
    everywhere = Switch("mock", "", {"structured": "all"})
    here = Switch("mock", "echo", {"structured": "one"})
    mocked = overridden("echo", Counting(), [here, everywhere])
    assert (await mocked.call(CALL)).structured == "one"
    off = overridden("echo", Counting(), [here, Switch("disable", "")])
    assert (await off.call(CALL)).failure == "tool_disabled"


async def test_an_expired_switch_steps_aside_without_a_reload() -> None:
    past = timezone.now() - timedelta(seconds=1)
    binding = overridden("echo", Counting(), [Switch("disable", "", {}, past.timestamp())])
    assert (await binding.call(CALL)).content[0]["text"] == "real"


def test_without_a_switch_the_binding_is_the_same_object() -> None:
    counting = Counting()
    assert overridden("echo", counting, [Switch("disable", "other")]) is counting
