"""Origins that cannot be reached or break off, and when a request is sent once more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from mooring.egress.guard import Guard
from mooring.egress.session import session
from servers.runtimes.upstreams import Upstreams
from tests.servers.runtimes.conftest import Caller, Origin, never, text_of


async def test_an_upstream_that_is_not_there_is_unreachable(call: Caller, unused_tcp_port: int) -> None:
    outcome = await call({"url": f"http://127.0.0.1:{unused_tcp_port}/"})
    assert (outcome.is_error, outcome.failure) == (True, "upstream_unreachable")
    assert "127.0.0.1" not in text_of(outcome)
    assert str(unused_tcp_port) not in text_of(outcome)


async def test_an_inner_address_looks_like_any_unreachable_one(call: Caller, unused_tcp_port: int) -> None:
    closed = await call({"url": f"http://127.0.0.1:{unused_tcp_port}/"})
    inner = await call({"url": "http://169.254.169.254/latest/meta-data/"})
    assert inner == closed


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_an_upstream_that_speaks_no_http_is_invalid(call: Caller, said: bytes) -> None:
    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(on_connect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    outcome = await call({"url": f"http://127.0.0.1:{port}/"})
    assert (outcome.is_error, outcome.failure) == (True, "upstream_invalid")
    server.close()
    await server.wait_closed()


async def test_a_caller_who_leaves_closes_the_connection(call: Caller, origin: Origin) -> None:
    started, gone = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        started.set()
        try:
            return await never(request)
        finally:
            gone.set()

    origin.answer = answer
    task = asyncio.create_task(call({}))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await gone.wait()


# ---- retries -------------------------------------------------------------------------------------------


def hangs_up(times: int) -> Any:
    left = times

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal left
        left -= 1
        if left >= 0:
            assert request.transport is not None
            request.transport.close()
        return web.json_response({"ok": True})

    return answer


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_read_is_tried_once_more_when_its_connection_broke(
    call: Caller, origin: Origin, method: str
) -> None:
    origin.answer = hangs_up(1)
    assert not (await call({"method": method})).is_error
    assert len(origin.received) == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_a_write_is_never_sent_twice(call: Caller, origin: Origin, method: str) -> None:
    await call({"method": method})  # leaves a connection open, on which repeating would be tempting
    origin.answer = hangs_up(1)
    assert (await call({"method": method})).failure == "upstream_unreachable"
    assert len(origin.received) == 2


async def test_retries_have_a_budget(call: Caller, origin: Origin) -> None:
    origin.answer = hangs_up(2)
    assert (await call({})).is_error  # one retry is saved up for the start
    origin.answer = hangs_up(1)
    assert (await call({})).is_error
    assert len(origin.received) == 3
    for _ in range(10):
        await call({})
    origin.answer = hangs_up(1)
    assert not (await call({})).is_error


async def test_an_error_status_is_not_retried(call: Caller, origin: Origin) -> None:
    origin.replies(b"", 503)
    await call({})
    assert len(origin.received) == 1


async def test_the_guard_is_told_what_each_connection_is_for(call: Caller, unused_tcp_port: int) -> None:
    asked: list[tuple[str, bool]] = []

    class Listening(Guard):
        def permits(self, address: str, port: int, *, plain: bool) -> bool:
            asked.append((address, plain))
            return super().permits(address, port, plain=plain)

    known = Upstreams(lambda: session(Listening(allow=["127.0.0.0/8"])))
    call.upstreams = known
    for scheme in ("https", "http", "https"):
        await call({"method": "POST", "url": f"{scheme}://127.0.0.1:{unused_tcp_port}/"})
    assert asked == [("127.0.0.1", False), ("127.0.0.1", True), ("127.0.0.1", False)]
    await known.close()
