"""Clients of remote servers, kept for as long as somebody needs them."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

from servers.runtimes.base import ToolCall
from servers.runtimes.remote.asking import Era
from servers.runtimes.remote.endpoint import Endpoint
from servers.runtimes.remote.registry import RemoteClients
from servers.runtimes.remote.tool import RemoteTool
from tests.servers.runtimes.remote.peers import Peer, handshake, until_ended

if TYPE_CHECKING:
    from servers.runtimes.upstreams import Upstreams


async def test_a_client_outlives_a_publish_and_is_one_a_tenant_and_configuration(
    peer: Peer, upstreams: Upstreams
) -> None:
    clients = RemoteClients(upstreams)
    first = clients.get("acme", Endpoint(peer.url, (("X-Key", "1"),)))
    assert clients.get("acme", Endpoint(peer.url, (("X-Key", "1"),))) is first
    assert clients.get("acme", Endpoint(peer.url, (("X-Key", "2"),))) is not first
    assert clients.get("globex", Endpoint(peer.url, (("X-Key", "1"),))) is not first
    assert first.upstream.tenant == "acme"
    await clients.close()


async def test_a_client_with_open_sessions_is_kept_until_they_are_ended(
    peer: Peer, upstreams: Upstreams
) -> None:
    peer.serve = handshake()
    clients = RemoteClients(upstreams)
    tool = RemoteTool(clients.get("acme", Endpoint(peer.url)), "echo")
    deadline = asyncio.get_running_loop().time() + 5
    await tool.call(ToolCall({}, deadline, 1_000))
    assert tool.client.era is Era.HANDSHAKE
    del tool
    gc.collect()
    assert len(peer.sessions) == 1
    await clients.close_idle(0)
    await until_ended(peer, 0)
    gc.collect()
    assert clients.get("acme", Endpoint(peer.url)).era is None
    await clients.close()
