"""Whether an upstream is there, and what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servers.runtimes.remote.asking import Era
from tests.servers.runtimes.remote.peers import Peer, handshake, never

if TYPE_CHECKING:
    from tests.servers.runtimes.remote.conftest import Caller
from tests.servers.runtimes.remote.eras import ERAS, every_era


@every_era
async def test_a_probe_says_that_an_upstream_is_well(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    for _ in range(3):
        health = await call.client.probe()
        assert (health.state, health.detail) == ("healthy", "")
        assert health.data["era"] == (call.client.era.value if call.client.era else "")
    assert not peer.said("tools/call")
    assert peer.opened == (0 if era == "modern" else 1)


async def test_an_upstream_that_wants_credentials_is_alive(call: Caller, peer: Peer) -> None:
    peer.answers("server/discover", 401)
    health = await call.client.probe()
    assert (health.state, health.detail) == ("healthy", "It is there and asks for credentials.")
    peer.answers("server/discover", 429)
    assert (await call.client.probe()).state == "degraded"
    peer.answers("server/discover", 503)
    health = await call.client.probe()
    assert (health.state, health.data["failure"]) == ("unhealthy", "upstream_failed")
    peer.instead["server/discover"] = never
    health = await call.client.probe(seconds=0.05)
    assert (health.state, health.data["failure"]) == ("unhealthy", "upstream_timeout")


@every_era
async def test_a_probe_passes_by_a_full_house_and_an_open_breaker(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    await call()
    peer.answers("tools/call", 500)
    for _ in range(5):
        await call()
    assert (await call()).failure == "upstream_unavailable"
    assert (await call.client.probe()).state == "healthy"


async def test_a_probe_notices_a_new_era(call: Caller, peer: Peer) -> None:
    await call()
    peer.serve = handshake()
    assert (await call.client.probe()).data["era"] == "handshake"
    peer.sessions.clear()
    assert (await call.client.probe()).state == "healthy"
    assert peer.opened == 2


async def test_what_the_upstream_says_of_itself(call: Caller, peer: Peer) -> None:
    about = await call.client.about(deadline=call.deadline)
    assert (about.era, about.name, about.version, about.instructions) == (Era.MODERN, "peer", "7", "Ask.")
    assert about.capabilities is not None
    assert "prompts" in about.capabilities
