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
    """The floor of every proxy: one aiohttp session, one request to the origin for each POST, bytes passed on."""

    def __init__(self) -> None:
        self._opened: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await body_of(receive)
        async with self._session.get(os.environ["BENCH_ORIGIN"] + "/v1/echo/hello") as response:
            await answer(send, await response.read())

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            self._opened = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self._opened


class McpRelay(Relay):
    """The same in front of an MCP server: the request and its headers of MCP go on as they are."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await body_of(receive)
        passed = {name.decode(): value.decode() for name, value in scope["headers"] if name in _PASSED}
        async with self._session.post(os.environ["BENCH_ORIGIN"], data=body, headers=passed) as response:
            await answer(send, await response.read())


_PASSED = {b"content-type", b"accept", b"mcp-protocol-version", b"mcp-method", b"mcp-name"}
relay, mcp_relay = Relay(), McpRelay()


def sdk() -> Any:
    """The official SDK's server with one tool, stateless, answering JSON: its fastest way."""
    from mcp.server.mcpserver import MCPServer  # slow to import, and only this application needs it

    server = MCPServer("bench", log_level="WARNING")

    @server.tool()
    def echo(text: str) -> dict[str, str]:
        return {"text": text}

    return server.streamable_http_app(json_response=True, stateless_http=True)


def fastmcp_proxy() -> Any:
    """fastmcp's proxy in front of an MCP server, stateless, answering JSON: its fastest way."""
    from fastmcp.server import create_proxy  # there only where `make bench` has installed it

    proxy = create_proxy(os.environ["BENCH_ORIGIN"], name="bench")
    return proxy.http_app(json_response=True, stateless_http=True)
