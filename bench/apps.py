"""What Mooring is compared with, and the origin its HTTP tool calls. Each is an ASGI application."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import msgspec

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_JSON = [(b"content-type", b"application/json")]


async def body_of(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def answer(send: Send, body: bytes) -> None:
    headers = [*_JSON, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """The floor: JSON-RPC in, JSON-RPC out, and nothing in between."""
    request = msgspec.json.decode(await body_of(receive))
    arguments = request["params"]["arguments"]
    content = [{"type": "text", "text": arguments["text"]}]
    result = {"content": content, "structuredContent": arguments, "isError": False}
    await answer(send, msgspec.json.encode({"jsonrpc": "2.0", "id": request["id"], "result": result}))


async def origin(scope: Scope, receive: Receive, send: Send) -> None:
    """An API of somebody's: gives its path back."""
    await body_of(receive)
    await answer(send, msgspec.json.encode({"text": scope["path"].rpartition("/")[2]}))


class Relay:
    """The floor of every proxy: one aiohttp session, one GET to the origin for each POST, bytes passed on."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        await body_of(receive)
        async with self._session.get(os.environ["BENCH_ORIGIN"] + "/v1/echo/hello") as response:
            await answer(send, await response.read())


relay = Relay()


def sdk() -> Any:
    """The official SDK's server with one tool, stateless, answering JSON: its fastest way."""
    from mcp.server.mcpserver import MCPServer  # slow to import, and only this application needs it

    server = MCPServer("bench", log_level="WARNING")

    @server.tool()
    def echo(text: str) -> dict[str, str]:
        return {"text": text}

    return server.streamable_http_app(json_response=True, stateless_http=True)
