"""The web server's own bounds, on a real socket with a small application behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

from uvicorn import Config, Server

from mooring.cli.serving import READ_BYTES, GuardedProtocol
from servers.gateway.direct import direct_of
from servers.gateway.request import Receive, Scope, Send

ANSWER = b"x" * (16 * 1024 * 1024)
REQUEST = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"


class Impatient(GuardedProtocol):
    read_seconds = 1.0


class Answering:
    """An application with a large answer; `sent` is set once sending has ended, one way or the other."""

    def __init__(self) -> None:
        self.sent = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = (b"content-length", str(len(ANSWER)).encode())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [length]})
            for start in range(0, len(ANSWER), READ_BYTES):
                part = ANSWER[start : start + READ_BYTES]
                more = start + READ_BYTES < len(ANSWER)
                await send({"type": "http.response.body", "body": part, "more_body": more})
        finally:
            self.sent.set()


@contextlib.asynccontextmanager
async def asked(application: Answering) -> AsyncIterator[socket.socket]:
    """A client with not much room that has sent its request and not read yet."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = Config(application, http=Impatient, ws="none", lifespan="off", log_config=None)
    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * READ_BYTES)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(client, listener.getsockname())
        await loop.sock_sendall(client, REQUEST)
        yield client
    finally:
        client.close()
        server.should_exit = True
        await serving


async def received(client: socket.socket, pause: float = 0.0) -> int:
    """Bytes until the end, with a pause before each part."""
    count, loop = 0, asyncio.get_running_loop()
    with contextlib.suppress(ConnectionResetError):
        while part := await loop.sock_recv(client, READ_BYTES):
            count += len(part)
            if count > len(ANSWER):
                break
            await asyncio.sleep(pause)
    return count


async def test_a_client_that_does_not_read_is_let_go() -> None:
    application = Answering()
    async with asked(application) as client, asyncio.timeout(20):
        await application.sent.wait()
        assert await received(client) < len(ANSWER)


async def test_a_client_that_reads_slowly_gets_the_whole_answer() -> None:
    async with asked(Answering()) as client, asyncio.timeout(20):
        assert await received(client, pause=0.01) > len(ANSWER)


async def direct(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it was sent, in the short way where that is open, and says which way it took."""
    short = direct_of(scope)
    assert short is not None
    body = short.body()
    if body is None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
    answer = scope["path"].encode() + b" " + body
    size = b"%d" % len(answer)
    if short.answer(200, b"content-length: %b\r\nx-way: short\r\n" % size, answer):
        return
    headers = [(b"content-length", size), (b"x-way", b"long")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


@contextlib.asynccontextmanager
async def connected_to(
    application: Any, *, timeout_keep_alive: int = 60
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = Config(
        application,
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=timeout_keep_alive,
    )
    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()
        server.should_exit = True
        await serving


async def answer_of(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Which way was taken, and the body."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
    assert b"date" in fields
    return fields[b"x-way"], await reader.readexactly(int(fields[b"content-length"]))


async def test_requests_sent_at_once_are_answered_in_their_order_by_the_short_way() -> None:
    async with connected_to(direct) as (reader, writer):
        for number in range(3):
            writer.write(b"POST /%d HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\nhi" % number)
        for number in range(3):
            assert await answer_of(reader) == (b"short", b"/%d hi" % number)


async def test_a_body_that_comes_in_parts_is_read_whole() -> None:
    async with connected_to(direct) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhello")
        await writer.drain()
        await asyncio.sleep(0)
        writer.write(b"world")
        assert (await answer_of(reader))[1] == b"/ helloworld"
        writer.write(b"POST /again HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n")
        assert (await answer_of(reader))[1] == b"/again "


async def test_a_connection_that_is_to_be_closed_is_answered_the_long_way_and_closed() -> None:
    async with connected_to(direct) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        assert await answer_of(reader) == (b"long", b"/ ")
        assert await reader.read() == b""


async def test_a_head_request_gets_no_body() -> None:
    async with connected_to(direct) as (reader, writer):
        writer.write(b"HEAD / HTTP/1.1\r\nhost: test\r\n\r\n")
        assert b"x-way: long" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"POST /next HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n")
        assert await answer_of(reader) == (b"short", b"/next ")


async def test_the_body_of_an_upgrade_is_never_taken_for_a_request() -> None:
    async with connected_to(direct) as (reader, writer):
        smuggled = b"GET /smuggled HTTP/1.1\r\nhost: test\r\n\r\n"
        writer.write(b"POST /first HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: h2c\r\n")
        writer.write(b"content-length: %d\r\n\r\n" % len(smuggled))
        await writer.drain()
        writer.write(smuggled)
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"smuggled" not in answer


async def test_an_upgrade_without_a_body_is_answered_as_if_it_had_not_been_asked_for() -> None:
    async with connected_to(direct) as (reader, writer):
        writer.write(b"GET /page HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
        assert (await answer_of(reader))[1] == b"/page "


async def test_what_follows_a_body_is_no_header_of_the_request() -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(list(scope["headers"]))
        await direct(scope, receive, send)

    async with connected_to(noting) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"2\r\nhi\r\n0\r\nhost: evil\r\nauthorization: x\r\n\r\n")
        assert (await answer_of(reader))[1] == b"/ hi"
    assert [name for name, _ in seen[0]] == [b"host", b"transfer-encoding"]


async def test_trailers_without_end_are_cut_off() -> None:
    async with connected_to(direct) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(10_000):
                writer.write(b"a: b\r\n" * 1_000)
                await writer.drain()
            raise AssertionError("sixty megabytes were taken")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""


async def test_a_connection_that_sends_nothing_but_the_end_of_a_line_is_closed_like_an_idle_one() -> None:
    async with connected_to(direct, timeout_keep_alive=1) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n")
        assert (await answer_of(reader))[1] == b"/ "
        writer.write(b"\r\n")
        assert await reader.read() == b""
