"""MCP servers that do what a test wants them to: any era, any fault, on a free port of loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]
MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"
ECHO: Json = {
    "name": "echo",
    "description": "Gives a text back.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
}


@dataclass(frozen=True, slots=True)
class Received:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> Json:
        value = json.loads(self.body) if self.body else {}
        return value if isinstance(value, dict) else {}

    @property
    def said(self) -> str:
        """The JSON-RPC method, or the HTTP one where there is no message."""
        return str(self.message.get("method", self.method))


Handler = Callable[["Peer", web.Request, Json], Awaitable[web.StreamResponse]]


@dataclass
class Peer:
    """`serve` answers everything; a test puts one of the servers below there, or its own.

    `instead` maps a JSON-RPC method (or GET, DELETE) to what is done for it instead.
    """

    url: str = ""
    serve: Handler | None = None
    instead: dict[str, Handler] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    opened: int = 0
    running: int = 0
    most_running: int = 0
    connections: set[Any] = field(default_factory=set)
    streams: dict[str, web.StreamResponse] = field(default_factory=dict)
    hung_up: dict[str, asyncio.Event] = field(default_factory=dict)
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    def said(self, method: str) -> list[Received]:
        return [received for received in self.received if received.said == method]

    @property
    def last(self) -> Received:
        return self.received[-1]

    def answers(self, method: str, status: int = 200, body: Any = None, **headers: str) -> None:
        """Give this method this answer; `{"$id": 0}` in an object stands for the request's id."""

        async def answer(peer: Peer, request: web.Request, message: Json) -> web.Response:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            if isinstance(body, bytes | str):
                content = body.encode() if isinstance(body, str) else body
                return web.Response(status=status, body=content, headers=fields)
            if body is None:
                return web.Response(status=status, headers=fields)
            filled = {key: message.get("id") if value == {"$id": 0} else value for key, value in body.items()}
            return web.json_response(filled, status=status, headers=fields)

        self.instead[method] = answer


ID = {"$id": 0}


@asynccontextmanager
async def peer_running(serve: Handler) -> AsyncIterator[Peer]:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        peer.received.append(Received(request.method, request.path, request.headers.copy(), body))
        message = peer.received[-1].message
        peer.connections.add(request.transport)
        peer.running += 1
        peer.most_running = max(peer.most_running, peer.running)
        try:
            handler = peer.instead.get(peer.received[-1].said) or peer.serve
            assert handler is not None
            return await handler(peer, request, message)
        finally:
            peer.running -= 1

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    peer = Peer(f"http://127.0.0.1:{runner.addresses[0][1]}/mcp", serve)
    try:
        yield peer
    finally:
        peer.ending.set()
        for hung_up in peer.hung_up.values():
            hung_up.set()
        await runner.cleanup()


async def until_ended(peer: Peer, left: int) -> None:
    async with asyncio.timeout(5):
        while len(peer.sessions) > left:
            await asyncio.sleep(0)


# ---- answers ---------------------------------------------------------------------------------------------


def result(message: Json, value: Json) -> Json:
    return {"jsonrpc": "2.0", "id": message.get("id"), "result": value}


def error(message: Json, code: int, text: str = "no", data: Any = None) -> Json:
    body: Json = {"code": code, "message": text} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "id": message.get("id"), "error": body}


def text(value: str) -> Json:
    return {"content": [{"type": "text", "text": value}]}


def event(data: Any, **fields: str) -> bytes:
    head = "".join(f"{name}: {value}\n" for name, value in fields.items())
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


async def streamed(request: web.Request, *chunks: bytes, **headers: str) -> web.StreamResponse:
    """An event stream that ends after these chunks."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **headers})
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
    await response.write_eof()
    return response


def worked(message: Json) -> Json:
    """What every server here does when all is well."""
    method, params = message["method"], message.get("params", {})
    if method == "tools/call":
        return text(str(params.get("arguments", {}).get("text", "")))
    if method == "tools/list":
        return {"tools": [ECHO]}
    if method == "resources/read":
        return {"contents": [{"uri": params["uri"], "text": "hello"}]}
    if method == "prompts/get":
        return {"messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}]}
    if method == "completion/complete":
        return {"completion": {"values": ["Rome", "Riga"]}}
    return {}


# ---- servers ---------------------------------------------------------------------------------------------


async def modern(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
    """2026-07-28, strict about what the revision asks of a client."""
    if request.method != "POST":
        return web.Response(status=405)
    method, params = message["method"], message.get("params", {})
    meta = params.get("_meta", {})
    if META + "clientCapabilities" not in meta:
        return web.json_response(error(message, -32602), status=400)
    named = params.get("uri" if method == "resources/read" else "name")
    sent = request.headers.get("Mcp-Name")
    if (
        request.headers.get("MCP-Protocol-Version") != meta.get(META + "protocolVersion")
        or request.headers.get("Mcp-Method") != method
        or (sent is not None and sent.isascii() and not sent.startswith("=?") and sent != named)
    ):
        return web.json_response(error(message, -32020), status=400)
    if method == "server/discover":
        offered: Json = {"tools": {}, "resources": {}, "prompts": {}, "completions": {}}
        info = {META + "serverInfo": {"name": "peer", "version": "7"}}
        found = {
            "supportedVersions": [MODERN],
            "capabilities": offered,
            "instructions": "Ask.",
            "_meta": info,
        }
        return web.json_response(result(message, {"resultType": "complete", **found}))
    return web.json_response(result(message, {"resultType": "complete", **worked(message)}))


def handshake(
    revision: str = "2025-11-25", *, has_session: bool = True, as_events: bool = False
) -> Callable[[Peer, web.Request, Json], Awaitable[web.StreamResponse]]:
    """Streamable HTTP with a session, strict about it."""

    async def serve(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        session = request.headers.get("Mcp-Session-Id", "")
        if request.method == "DELETE":
            peer.sessions.discard(session)
            return web.Response(status=204)
        if request.method == "GET":
            return web.Response(status=405)
        if message.get("method") == "initialize":
            return opened(peer, message)
        if has_session and session not in peer.sessions:
            status, why = (404, "Session not found") if session else (400, "Bad Request: Missing session ID")
            return web.json_response(error({}, -32600, why), status=status)
        if "id" not in message or "method" not in message:
            return web.Response(status=202)
        if message["method"] == "server/discover":
            return web.json_response(error(message, -32601))
        answer = result(message, worked(message))
        return await streamed(request, event(answer)) if as_events else web.json_response(answer)

    def opened(peer: Peer, message: Json) -> web.StreamResponse:
        peer.opened += 1
        name = f"session-{peer.opened}"
        peer.sessions.add(name)
        about: Json = {
            "protocolVersion": revision,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "peer", "version": "6"},
        }
        headers = {"Mcp-Session-Id": name} if has_session else {}
        return web.json_response(result(message, about), headers=headers)

    return serve


async def stream(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
    """HTTP+SSE of 2024-11-05."""
    if request.method == "GET":
        peer.opened += 1
        name = f"stream-{peer.opened}"
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        peer.sessions.add(name)
        peer.streams[name] = response
        peer.hung_up[name] = asyncio.Event()
        try:
            await response.write(event(f"/messages?session_id={name}", event="endpoint"))
            await peer.hung_up[name].wait()
        finally:
            peer.sessions.discard(name)
        return response
    session = request.query.get("session_id", "")
    if request.path != "/messages":
        return web.Response(status=405)
    if session not in peer.sessions:
        return web.Response(status=404)
    if "id" in message and "method" in message:
        about = {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {}}
        value = about if message["method"] == "initialize" else worked(message)
        await peer.streams[session].write(event(result(message, value), event="message"))
    return web.Response(status=202)


async def never(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
    await peer.ending.wait()
    return web.Response(status=503)
