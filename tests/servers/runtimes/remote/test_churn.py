"""Versions, callers and sessions that come and go, over every transport at once: what is gone leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mooring.egress.guard import Guard
from mooring.egress.session import session
from servers.runtimes.remote.endpoint import Endpoint, Identity
from servers.runtimes.remote.registry import RemoteClients
from servers.runtimes.upstreams import Upstreams
from tests.servers.runtimes.remote.peers import Peer, handshake, modern, peer_running, stream

SECONDS = 600.0 if "MOORING_SOAK" in os.environ else 6.0
# Calls, however long they take on a busy machine: one in a hundred publishes.
ENOUGH = 1_000
SESSIONS = 5
CALLERS = 8
# Longer than a busy machine lets one of its processes wait. A call that hangs is found all the same.
PATIENCE = 60.0
# What the interpreter keeps for itself; a leak of one kilobyte a call would be many times that.
MEGABYTES = 24
SERVED = (modern, handshake(), handshake(as_events=True), stream)


@pytest.fixture
async def peers() -> AsyncIterator[list[Peer]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(peer_running(serve)) for serve in SERVED]


class Churn:
    """One installation's clients. A version is published by asking for another configuration of the same address."""

    def __init__(self) -> None:
        self.upstreams = Upstreams(lambda: session(Guard(allow=["127.0.0.0/8"])))
        self.clients = RemoteClients(self.upstreams, sessions=SESSIONS)
        self.versions: dict[str, int] = {}
        self.chance = random.Random(11)
        self.calls = 0
        self.most_sessions = 0

    async def caller(self, peer: Peer, until: float) -> None:
        """Calls as one of a few principals; now and then leaves in the middle, and now and then publishes."""
        loop = asyncio.get_running_loop()
        while loop.time() < until or self.calls < ENOUGH:
            if self.chance.random() < 0.01:
                self.versions[peer.url] = self.versions.get(peer.url, 0) + 1
            version = str(self.versions.get(peer.url, 0))
            client = self.clients.get("acme", Endpoint(peer.url, (("X-Version", version),)))
            text = str(self.calls)
            work = client.call_tool(
                "echo",
                {"text": text},
                deadline=loop.time() + PATIENCE,
                limit=10_000,
                identity=Identity(str(self.chance.randrange(SESSIONS))),
            )
            task = asyncio.create_task(work)
            if self.chance.random() < 0.1:
                loop.call_later(self.chance.random() / 100, task.cancel)
            await asyncio.wait([task])
            assert task.cancelled() or task.result().content[0]["text"] == text
            self.most_sessions = max(self.most_sessions, client.sessions_open)
            self.calls += 1

    async def tidying(self) -> None:
        """What a gateway does every minute, more often."""
        while True:
            await asyncio.sleep(0.2)
            await self.clients.close_idle(0.1)
            await self.upstreams.close_idle(0.1)

    async def close(self) -> None:
        await self.clients.close()
        await self.upstreams.close()


async def forgetting(peers: list[Peer]) -> None:
    """The peers are made to remember what they received, which is not what is looked for here."""
    while True:
        await asyncio.sleep(0.5)
        for peer in peers:
            peer.received.clear()
            peer.connections.clear()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def megabytes() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def test_nothing_leaks_while_versions_callers_and_sessions_come_and_go(
    peers: list[Peer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(
        logging.CRITICAL, logger="aiohttp.server"
    )  # the peers tell of each caller who left, and it is kept
    loop = asyncio.get_running_loop()
    tasks, open_before = asyncio.all_tasks(), descriptors()
    churn = Churn()
    helpers = [asyncio.create_task(churn.tidying()), asyncio.create_task(forgetting(peers))]
    until = loop.time() + SECONDS
    callers = [asyncio.create_task(churn.caller(peer, until)) for peer in peers for _ in range(CALLERS)]
    await asyncio.sleep(SECONDS / 3)
    settled = megabytes()
    await asyncio.gather(*callers)
    grown = megabytes() - settled
    for helper in helpers:
        helper.cancel()
    await asyncio.wait(helpers)
    del callers
    await churn.close()
    assert sum(churn.versions.values()) > 4
    assert churn.most_sessions <= SESSIONS
    assert grown < MEGABYTES
    async with asyncio.timeout(10):
        while ours(tasks) or descriptors() > open_before:
            await asyncio.sleep(0.01)
    gc.collect()
    assert churn.upstreams.health() == {}  # nobody holds one any more
    assert all(peer.running == 0 for peer in peers)


def ours(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Tasks that the product started since then and that are still there."""
    return [task for task in asyncio.all_tasks() - before if module_of(task).startswith("servers.")]


def module_of(task: asyncio.Task[Any]) -> str:
    frame = getattr(task.get_coro(), "cr_frame", None)
    return str(frame.f_globals["__name__"]) if frame is not None else ""
