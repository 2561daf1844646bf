"""Servers made of others of their organisation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from mooring.errors import InvalidInput
from mooring.scope import system_scope, tenant_scope
from servers import services
from servers.models import Server, UpstreamWatch
from servers.runtimes.base import Health
from servers.services.watching import record_probes
from tests.conftest import World
from tests.servers.conftest import GatewayDriver
from tests.servers.gateway.test_remote import peer
from tests.servers.runtimes.remote.peers import Peer, never
from tests.servers.services.test_watching import DOWN, HEALTHY

Json = dict[str, Any]
__all__ = ["peer"]


def static_server(title: str, **more: Any) -> Json:
    echo = {"name": "echo", "input_schema": {"type": "object"}, "static": {"kind": "text", "text": title}}
    return {"mooring": 1, "server": {"title": title}, "tools": [echo]} | more


RULES = {"name": "rules", "uri": "handbook://rules", "text": "No running."}
REVIEW = {"name": "review", "messages": [{"role": "user", "text": "Review it."}]}


@pytest.fixture
def publish(world: World, gateway: GatewayDriver) -> Callable[[str, Json], str]:
    """Makes or changes a server, publishes it and lets the gateway see it; `<tenant>/<server>`."""

    def make(slug: str, manifest: Json) -> str:
        with tenant_scope(world.acme.id):
            server = Server.objects.filter(slug=slug).first() or services.create_server(
                world.acme, slug=slug, title=slug, actor=world.actor
            )
            services.replace_draft(server, manifest, actor=world.actor)
            services.publish(server, actor=world.actor)
        gateway.settle()
        return f"{world.acme.slug}/{slug}"

    return make


@pytest.fixture
def key(world: World, key_of: Callable[..., str]) -> str:
    return key_of(world.acme)


@pytest.fixture
def desk(publish: Callable[[str, Json], str]) -> str:
    """Made of `one`, with a prefix, and `two`, beside a tool of its own."""
    publish("one", static_server("One", prompts=[REVIEW]))
    publish("two", static_server("Two", resources=[RULES]))
    members = [{"server": "one", "prefix": "one_"}, {"server": "two", "prefix": "two_"}]
    return publish("desk", static_server("Desk", members=members))


def names(gateway: GatewayDriver, at: str, key: str) -> list[str]:
    return [tool["name"] for tool in gateway.modern(at, "tools/list", key=key).result["tools"]]


def said(gateway: GatewayDriver, at: str, tool: str, key: str) -> str:
    text: str = gateway.call(at, tool, {}, key=key)["content"][0]["text"]
    return text


def test_a_composition_serves_its_members_parts_under_their_prefixes(
    gateway: GatewayDriver, desk: str, key: str
) -> None:
    assert names(gateway, desk, key) == ["echo", "one_echo", "two_echo"]
    assert [said(gateway, desk, name, key) for name in ("echo", "one_echo", "two_echo")] == [
        "Desk",
        "One",
        "Two",
    ]
    prompts = gateway.modern(desk, "prompts/list", key=key).result["prompts"]
    assert [prompt["name"] for prompt in prompts] == ["one_review"]
    asked = {"name": "one_review"}
    prompt = gateway.modern(desk, "prompts/get", asked, key=key, headers={"mcp-name": "one_review"}).result
    assert prompt["messages"][0]["content"]["text"] == "Review it."
    uri = {"uri": "handbook://rules"}
    read = gateway.modern(desk, "resources/read", uri, key=key, headers={"mcp-name": "handbook://rules"})
    assert read.result["contents"][0]["text"] == "No running."


def test_a_members_new_version_is_served_at_once(
    gateway: GatewayDriver, desk: str, key: str, publish: Callable[[str, Json], str]
) -> None:
    assert said(gateway, desk, "one_echo", key) == "One"
    publish("one", static_server("One again"))
    assert said(gateway, desk, "one_echo", key) == "One again"


def test_a_dead_member_costs_only_its_own_tools_and_the_list_says_who_is_missing(
    world: World, gateway: GatewayDriver, desk: str, key: str, publish: Callable[[str, Json], str]
) -> None:
    with tenant_scope(world.acme.id):
        services.delete_server(Server.objects.get(slug="one"), actor=world.actor)
    gateway.settle()
    listed = gateway.modern(desk, "tools/list", key=key).result
    assert [tool["name"] for tool in listed["tools"]] == ["echo", "two_echo"]
    assert listed["_meta"]["mooring/missing"] == ["one: there is no such server."]
    assert said(gateway, desk, "two_echo", key) == "Two"


def reaching(url: str) -> Json:
    """A server with two tools: one that needs nothing, and one that needs what is at the URL."""
    far = {
        "name": "far",
        "input_schema": {"type": "object"},
        "http": {"method": "GET", "url": url, "timeout_seconds": 0.3},
    }
    whole = static_server("One")
    return whole | {"tools": [*whole["tools"], far]}


def looked_at(world: World, gateway: GatewayDriver, health: Health) -> None:
    """As a gateway does that has probed the only upstream of `one`."""
    with system_scope():
        (watch,) = UpstreamWatch.objects.filter(tenant=world.acme, server__slug="one")
        record_probes([(watch, health)])
    gateway.settle()


def test_a_member_with_a_dead_upstream_costs_only_its_own_tools_in_time_and_the_list_says_so(
    world: World,
    gateway: GatewayDriver,
    desk: str,
    key: str,
    publish: Callable[[str, Json], str],
    peer: Peer,
) -> None:
    publish("one", reaching(peer.url))
    peer.serve = never
    began = time.monotonic()
    late = gateway.call(desk, "one_far", {}, key=key)
    assert late["isError"]
    assert "did not answer within 0.3 s" in late["content"][0]["text"]
    assert time.monotonic() - began < 5
    for _ in range(4):
        gateway.call(desk, "one_far", {}, key=key)
    began = time.monotonic()
    assert "failed several times in a row" in said(gateway, desk, "one_far", key)
    assert [said(gateway, desk, name, key) for name in ("echo", "one_echo", "two_echo")] == [
        "Desk",
        "One",
        "Two",
    ]
    assert time.monotonic() - began < 5
    assert "mooring/missing" not in gateway.modern(desk, "tools/list", key=key).result["_meta"]
    looked_at(world, gateway, DOWN)
    for method in ("tools/list", "prompts/list", "resources/list"):
        listed = gateway.modern(desk, method, key=key).result
        assert listed["_meta"]["mooring/missing"] == ["one: something that it depends on does not answer."]
    assert names(gateway, desk, key) == ["echo", "one_echo", "one_far", "two_echo"]
    assert said(gateway, desk, "one_echo", key) == "One"
    looked_at(world, gateway, HEALTHY)
    assert "mooring/missing" not in gateway.modern(desk, "tools/list", key=key).result["_meta"]


def test_of_two_templates_with_one_address_the_first_is_served_and_the_other_is_told(
    gateway: GatewayDriver, key: str, publish: Callable[[str, Json], str]
) -> None:
    rooms = {"name": "room", "uri_template": "house://{room}", "text": "The {room}."}
    for slug in ("one", "two"):
        publish(slug, static_server(slug, resource_templates=[rooms]))
    members = [{"server": slug, "prefix": f"{slug}_"} for slug in ("one", "two")]
    at = publish("both", static_server("Both", members=members))
    listed = gateway.modern(at, "resources/templates/list", key=key).result
    assert [template["uriTemplate"] for template in listed["resourceTemplates"]] == ["house://{room}"]
    assert listed["_meta"]["mooring/missing"] == [
        "two: its resource template house://{room} is not served, since house://{room} is there already."
    ]


def test_a_tool_switched_off_at_its_member_is_off_in_the_composition(
    world: World, gateway: GatewayDriver, desk: str, key: str
) -> None:
    with tenant_scope(world.acme.id):
        services.set_override(Server.objects.get(slug="one"), actor=world.actor, kind="disable", tool="echo")
    gateway.settle()
    assert "switched off" in said(gateway, desk, "one_echo", key)
    assert said(gateway, desk, "two_echo", key) == "Two"


def test_of_two_tools_with_one_name_the_first_is_served_and_the_other_is_told(
    gateway: GatewayDriver, desk: str, key: str, publish: Callable[[str, Json], str]
) -> None:
    at = publish("both", static_server("Both", members=[{"server": "one"}, {"server": "two"}]))
    listed = gateway.modern(at, "tools/list", key=key).result
    assert [tool["name"] for tool in listed["tools"]] == ["echo"]
    assert said(gateway, at, "echo", key) == "Both"
    assert listed["_meta"]["mooring/missing"] == [
        "one: its tool echo is not served, since echo is there already.",
        "two: its tool echo is not served, since echo is there already.",
    ]


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        ("nowhere", "has no server 'nowhere'"),
        ("desk2", "cannot be a member of itself"),
        ("desk", "is made of others itself"),
    ],
)
def test_a_member_that_cannot_be_is_refused_when_publishing(
    desk: str, publish: Callable[[str, Json], str], member: str, sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        publish("desk2", static_server("Desk", members=[{"server": member}]))


def test_a_draft_is_no_member(publish: Callable[[str, Json], str]) -> None:
    publish("one", static_server("One"))
    with pytest.raises(InvalidInput, match="draft"):
        publish("desk", static_server("Desk", members=[{"server": "one", "channel": "draft"}]))


def test_another_organisations_server_is_no_member(world: World, publish: Callable[[str, Json], str]) -> None:
    with tenant_scope(world.globex.id):
        foreign = services.create_server(world.globex, slug="theirs", title="Theirs", actor=world.actor)
        services.replace_draft(foreign, static_server("Theirs"), actor=world.actor)
        services.publish(foreign, actor=world.actor)
    with pytest.raises(InvalidInput, match="has no server 'theirs'"):
        publish("desk", static_server("Desk", members=[{"server": "theirs"}]))
