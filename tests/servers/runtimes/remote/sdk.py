"""The official SDK's server, as it is and as one of the older eras, run in the test's own loop."""

from __future__ import annotations

import asyncio
import json
import socket
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventMessage, EventStore

Scope = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]


class Events(EventStore):
    """Keeps everything, so that streams can be taken up again."""

    def __init__(self) -> None:
        self._kept: list[tuple[str, Any]] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        self._kept.append((stream_id, message))
        return str(len(self._kept))

    async def replay_events_after(self, last_event_id: str, send_callback: Any) -> str | None:
        stream, _ = self._kept[int(last_event_id) - 1]
        for index in range(int(last_event_id), len(self._kept)):
            owner, message = self._kept[index]
            if owner == stream and message is not None:
                await send_callback(EventMessage(message, str(index + 1)))
        return stream


def echo(text: str) -> dict[str, str]:
    return {"text": text}


async def chatty(steps: int, ctx: Context[Any, Any]) -> str:
    for step in range(steps):
        await ctx.report_progress(step, steps, "still at it")
    return "done"


async def talks(ctx: Context[Any, Any]) -> str:
    """Logs, reports progress in between, and answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # logging is deprecated from 2026-07-28 on, and still spoken
        await ctx.log("debug", "looking for the key")
        await ctx.report_progress(0, 100)
        await ctx.log("warning", {"door": "locked", "key": "hunter2"}, logger_name="door")
        await ctx.report_progress(50, 100, "turning hunter2")
        await ctx.report_progress(100, 100)
        await ctx.log("info", "open")
    return "opened"


async def hangs_up(ctx: Context[Any, Any]) -> str:
    await ctx.close_sse_stream()
    await asyncio.sleep(0.01)
    return "after hanging up"


def fails() -> str:
    raise ValueError("not today")


def note(name: str) -> str:
    return f"note {name}"


def today() -> str:
    return "sunny"


def greet(name: str) -> str:
    return f"Hello, {name}"


def server() -> MCPServer[Any]:
    made = MCPServer("official", instructions="Ask for a text.", version="9", log_level="WARNING")
    calls: list[str] = []

    async def slow() -> str:
        calls.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            calls.append("ended")
        return ""

    def what_happened() -> list[str]:
        return calls

    for tool in (echo, chatty, talks, slow, what_happened, hangs_up, fails):
        made.add_tool(tool)
    made.resource("notes://{name}")(note)
    made.resource("notes://today")(today)
    made.prompt()(greet)
    return made


def as_before_2026(app: App) -> App:
    """Turned away at the door as the SDK's 1.x does it: by the revision in the header."""
    refusal = {
        "jsonrpc": "2.0",
        "id": "server-error",
        "error": {"code": -32600, "message": "Bad Request: Unsupported protocol version: 2026-07-28"},
    }

    async def older(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and (b"mcp-protocol-version", b"2026-07-28") in scope["headers"]:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body", "body": json.dumps(refusal).encode()})
            return
        await app(scope, receive, send)

    return older


def app_of(kind: str) -> tuple[App, str]:
    """The application of a kind, and the path where it speaks MCP."""
    if kind == "stream":
        return server().sse_app(), "/sse"
    as_json, stateless = kind.endswith("json"), kind.startswith("stateless")
    events = Events() if kind == "handshake" else None
    app = server().streamable_http_app(
        json_response=as_json, stateless_http=stateless, event_store=events, retry_interval=10
    )
    return (app if kind.startswith("modern") else as_before_2026(app)), "/mcp"


@asynccontextmanager
async def serving(kind: str) -> AsyncIterator[str]:
    """The address of a running server of a kind."""
    app, path = app_of(kind)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, loop="none")
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve(sockets=[listener]))
    try:
        while not running.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
    finally:
        running.should_exit = True
        await task
