"""Tools whose answers are remembered, as a caller meets them."""

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
