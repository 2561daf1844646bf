"""Clients that go away while their call runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from servers.gateway.request import Disconnected
from servers.gateway.watch import Watch


class Client:
    """What a web server hands an application: `receive`, which waits until the client leaves."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.watched = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        self.watched.set()
        await self.left.wait()
        return {"type": "http.disconnect"}


async def watched(client: Client) -> None:
    """A call that goes on for as long as it is let."""
    with Watch(client.receive):
        await asyncio.Event().wait()


async def test_a_call_is_cancelled_when_its_client_leaves() -> None:
    client = Client()
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def call() -> None:
        with Watch(client.receive):
            await work()

    running = asyncio.create_task(call())
    async with asyncio.timeout(10):
        await client.watched.wait()
        assert not running.done()
        client.left.set()
        with pytest.raises(Disconnected):
            await running
    assert cancelled.is_set()


async def test_one_who_left_before_anybody_looked_is_noticed_too() -> None:
    client = Client()
    client.left.set()
    with pytest.raises(Disconnected):
        await asyncio.wait_for(watched(client), 10)


async def test_a_quick_call_is_never_watched() -> None:
    client = Client()
    with Watch(client.receive):
        await asyncio.sleep(0)
    assert not client.watched.is_set()


async def test_watching_ends_with_the_call() -> None:
    client = Client()
    with Watch(client.receive):
        await client.watched.wait()
    before = asyncio.all_tasks()
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
    assert len(before) == 2
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_call_that_somebody_else_cancels_has_not_lost_its_client() -> None:
    client = Client()
    running = asyncio.create_task(watched(client))
    async with asyncio.timeout(10):
        await client.watched.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
