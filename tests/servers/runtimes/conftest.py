"""An upstream to call: a real web server on a free port of loopback, and everything it received."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from mooring.egress.guard import Guard
from mooring.egress.session import session
from servers.runtimes.base import Outcome, ToolCall
from servers.runtimes.http.tool import compile_tool
from servers.runtimes.upstreams import Upstreams

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Received:
    method: str
    target: str  # as it stood in the request line
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Origin:
    """Answers as `answer` says; by default with `{"ok": true}`."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answer: Handler | None = None

    @property
    def last(self) -> Received:
        return self.received[-1]

    def replies(self, body: bytes | str = b"", status: int = 200, **headers: str) -> None:
        """Give every request this answer; `Content_Type="…"` for headers."""
        content = body.encode() if isinstance(body, str) else body

        async def answer(request: web.Request) -> web.Response:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            return web.Response(status=status, body=content or None, headers=fields)

        self.answer = answer

    def replies_json(self, value: Any, status: int = 200) -> None:
        self.replies(json.dumps(value), status, Content_Type="application/json")


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        known.received.append(Received(request.method, request.raw_path, request.headers.copy(), body))
        return await (known.answer or _fine)(request)

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    known = Origin(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield known
    await runner.cleanup()


async def _fine(request: web.Request) -> web.StreamResponse:
    return web.json_response({"ok": True})


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    guard = Guard(allow=["127.0.0.0/8"])
    known = Upstreams(lambda: session(guard))
    yield known
    await known.close()


@dataclass
class Caller:
    """Compiles a binding to the origin and calls it."""

    origin: Origin
    upstreams: Upstreams
    secrets: dict[str, str] = field(default_factory=dict)
    tenant: str = "acme"
    answer_bytes: int = 1_000_000
    seconds: float = 10

    async def __call__(self, definition: dict[str, Any], /, **arguments: Any) -> Outcome:
        return await self.call({"method": "GET", "url": "{base_url}/x"} | definition, arguments)

    async def call(self, definition: dict[str, Any], arguments: dict[str, Any]) -> Outcome:
        tool = compile_tool(
            definition,
            variables={"base_url": self.origin.url, "region": "eu"},
            secrets=self.secrets,
            upstreams=self.upstreams,
            tenant=self.tenant,
        )
        deadline = asyncio.get_running_loop().time() + self.seconds
        return await tool.call(ToolCall(arguments, deadline, self.answer_bytes, "request-1"))


@pytest.fixture
def call(origin: Origin, upstreams: Upstreams) -> Caller:
    """`await call({"parameters": […]}, city="Rome")` calls a GET tool at the origin's /x."""
    return Caller(origin, upstreams)


def text_of(outcome: Outcome) -> str:
    """Of an answer that is one text."""
    assert [block["type"] for block in outcome.content] == ["text"]
    text = outcome.content[0]["text"]
    assert isinstance(text, str)
    return text


async def never(request: web.Request) -> web.StreamResponse:
    """An `Origin.answer` that does not come."""
    await asyncio.Event().wait()
    raise AssertionError
