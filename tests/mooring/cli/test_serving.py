"""The web server's own bounds, on a real socket with a small application behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from uvicorn import Config, Server

from mooring.cli.serving import READ_BYTES, GuardedProtocol
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
