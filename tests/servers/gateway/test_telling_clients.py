"""A client that is told of its call: in bounds, and never at the expense of whoever tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from servers.gateway import client as clients
from servers.gateway.client import Client, Listener
from servers.pipeline.call import Call
from servers.protocol.envelope import read

Message = MutableMapping[str, Any]


async def nothing() -> Message:
    raise AssertionError("nobody listens for the client here")


def call(meta: dict[str, Any]) -> Call:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x", "_meta": meta}}
    made = Call("acme", "one", "", {"accept": "application/json, text/event-stream"}, "")
    made.envelope = read(json.dumps(body).encode())
    made.revision = "2026-07-28"
    return made


def listening(send: Any, **meta: Any) -> tuple[Client, Listener]:
    client = Client(nothing, send)
    listener = client.listener(call(meta))
    assert listener is not None
    return client, listener


async def test_a_client_that_does_not_read_is_told_nothing_more_and_holds_nobody_up() -> None:
    sent: list[Message] = []
    full = asyncio.Event()

    async def send(message: Message) -> None:
        if full.is_set():
            await asyncio.Event().wait()
        sent.append(message)

    client, listener = listening(send, progressToken=1)
    await listener.progress(1)
    full.set()
    began = asyncio.get_running_loop().time()
    for step in range(2, 50):
        await listener.progress(step)
    assert asyncio.get_running_loop().time() - began < 20 * clients.TELL_SECONDS
    full.clear()
    await listener.progress(50)
    assert client.events is not None
    await client.events.end(b"{}")
    bodies = b"".join(message.get("body", b"") for message in sent)
    assert bodies.count(b"notifications/progress") == 1
    assert bodies.endswith(b"data: {}\n\n")


async def test_a_stream_that_could_not_begin_is_an_answer_like_any_other() -> None:
    async def send(_: Message) -> None:
        await asyncio.Event().wait()

    client, listener = listening(send, progressToken=1)
    await listener.progress(1)
    assert client.events is not None
    assert not client.events.has_begun


async def test_words_and_messages_are_bounded() -> None:
    sent: list[bytes] = []

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    client, listener = listening(send, progressToken=1, **{"io.modelcontextprotocol/logLevel": "debug"})
    await listener.progress(1, None, "x" * 10_000)
    assert len(sent[-1]) < clients.MOST_TEXT + 300
    for number in range(clients.MOST_LOGS + 5):
        await listener.log("info", number)
    assert client.events is not None
    client.events.close()
    assert b"".join(sent).count(b"notifications/message") == clients.MOST_LOGS


@pytest.mark.parametrize("token", ["x" * 257, 1 << 63, -(1 << 70), True, None, 1.5, {"a": 1}])
async def test_what_cannot_be_repeated_in_each_message_is_no_token(token: Any) -> None:
    async def send(_: Message) -> None:
        raise AssertionError("nothing is told")

    assert Client(nothing, send).listener(call({"progressToken": token})) is None
