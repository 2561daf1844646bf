"""Tools and resources whose answers are remembered, as a caller meets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mooring.scope import tenant_scope
from servers import services
from tests.conftest import World
from tests.servers.conftest import GatewayDriver
from tests.servers.gateway.test_remote import Remote, peer, remote
from tests.servers.runtimes.remote.peers import Peer

__all__ = ["peer", "remote"]


@pytest.fixture
def key(world: World, key_of: Callable[..., str]) -> str:
    return key_of(world.acme)


@pytest.fixture
def published(world: World, remote: Remote) -> Callable[..., Remote]:
    """The peer's echo, published with this `cache`."""

    def publish(**cache: Any) -> Remote:
        remote.look()
        remote.take(("tools", "echo"))
        with tenant_scope(world.acme.id):
            manifest = services.draft_manifest(remote.server)
            manifest["tools"][0] |= {"annotations": {"readOnlyHint": True}, "cache": cache}
            services.replace_draft(remote.server, manifest, actor=world.actor)
        remote.publish()
        return remote

    return publish


def said(peer: Peer) -> int:
    return len(peer.said("tools/call"))


def test_an_answer_is_remembered_for_its_caller_and_shared_only_when_the_tool_says_so(
    world: World,
    gateway: GatewayDriver,
    peer: Peer,
    key: str,
    key_of: Callable[..., str],
    published: Callable[..., Remote],
) -> None:
    remote, other = published(seconds=60), key_of(world.acme)
    for caller in (key, key, other):
        assert gateway.call(remote.at, "echo", {"text": "hi"}, key=caller)["content"][0]["text"] == "hi"
    assert said(peer) == 2
    published(seconds=60, shared=True)
    for caller in (key, key, other):
        gateway.call(remote.at, "echo", {"text": "hi"}, key=caller)
    assert said(peer) == 3


def test_a_stale_answer_stands_in_for_an_upstream_that_is_gone_and_is_marked(
    world: World,
    gateway: GatewayDriver,
    peer: Peer,
    key: str,
    published: Callable[..., Remote],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from servers.pipeline import caching

    remote = published(seconds=60, stale_seconds=600)
    gateway.call(remote.at, "echo", {"text": "hi"}, key=key)
    later = caching.time.time() + 120
    monkeypatch.setattr(caching.time, "time", lambda: later)

    async def hang_up(peer: Peer, request: Any, message: Any) -> Any:
        request.transport.abort()

    peer.instead["tools/call"] = hang_up
    answer = gateway.call(remote.at, "echo", {"text": "hi"}, key=key)
    assert answer["content"][0]["text"] == "hi"
    assert answer["_meta"]["mooring/degraded"].startswith("This answer is 120 s old")
    assert gateway.call(remote.at, "echo", {"text": "other"}, key=key)["isError"]


def test_only_a_tool_that_changes_nothing_may_be_remembered(world: World, remote: Remote) -> None:
    from mooring.errors import InvalidInput

    remote.look()
    remote.take(("tools", "echo"))
    with tenant_scope(world.acme.id):
        manifest = services.draft_manifest(remote.server)
        manifest["tools"][0]["cache"] = {"seconds": 60}
        with pytest.raises(InvalidInput, match="readOnlyHint"):
            services.replace_draft(remote.server, manifest, actor=world.actor)


# ---- resources -------------------------------------------------------------------------------------------

MAP, OSLO = "far://map", "far://city/Oslo"
both_kinds = pytest.mark.parametrize("uri", [MAP, OSLO])


@pytest.fixture
def readable(world: World, remote: Remote) -> Callable[..., Remote]:
    """A resource and a resource template of the peer, published with this `cache`."""

    def publish(**cache: Any) -> Remote:
        pinned = {"upstream": "peer", "digest": "a" * 64}
        resource = {"name": "map", "uri": MAP, "remote": pinned | {"uri": MAP}, "cache": cache}
        template = {"name": "city", "uri_template": "far://city/{name}", "remote": pinned, "cache": cache}
        with tenant_scope(world.acme.id):
            parts = {"resources": [resource], "resource_templates": [template]}
            services.replace_draft(
                remote.server, services.draft_manifest(remote.server) | parts, actor=world.actor
            )
        remote.publish()
        return remote

    return publish


@both_kinds
def test_what_was_read_is_remembered_for_its_caller_and_shared_only_when_the_resource_says_so(
    world: World,
    gateway: GatewayDriver,
    peer: Peer,
    key: str,
    key_of: Callable[..., str],
    readable: Callable[..., Remote],
    uri: str,
) -> None:
    remote, other = readable(seconds=60), key_of(world.acme)
    for caller in (key, key, other):
        read = gateway.modern(remote.at, "resources/read", {"uri": uri}, key=caller).result
        assert read["contents"] == [{"uri": uri, "text": "hello"}]
    assert len(peer.said("resources/read")) == 2
    readable(seconds=60, shared=True)
    for caller in (key, key, other):
        gateway.modern(remote.at, "resources/read", {"uri": uri}, key=caller)
    assert len(peer.said("resources/read")) == 3


@both_kinds
def test_what_was_read_before_stands_in_for_an_upstream_that_is_gone_and_is_marked(
    gateway: GatewayDriver,
    peer: Peer,
    key: str,
    readable: Callable[..., Remote],
    monkeypatch: pytest.MonkeyPatch,
    uri: str,
) -> None:
    from servers.pipeline import caching

    remote = readable(seconds=60, stale_seconds=600)
    gateway.modern(remote.at, "resources/read", {"uri": uri}, key=key)
    later = caching.time.time() + 120
    monkeypatch.setattr(caching.time, "time", lambda: later)
    peer.answers("resources/read", 503)
    read = gateway.modern(remote.at, "resources/read", {"uri": uri}, key=key).result
    assert read["contents"] == [{"uri": uri, "text": "hello"}]
    assert read["_meta"]["mooring/degraded"] == "This answer is 120 s old: upstream failed."
    refused = gateway.modern(remote.at, "resources/read", {"uri": "far://city/Bergen"}, key=key)
    assert refused.error["data"]["code"] == "upstream_failed"


def test_only_what_is_read_elsewhere_may_be_remembered(world: World, remote: Remote) -> None:
    from mooring.errors import InvalidInput

    with tenant_scope(world.acme.id):
        manifest = services.draft_manifest(remote.server)
        manifest["resources"] = [{"name": "a", "uri": "a://b", "text": "c", "cache": {"seconds": 60}}]
        with pytest.raises(InvalidInput, match="written here"):
            services.replace_draft(remote.server, manifest, actor=world.actor)
