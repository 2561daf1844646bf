"""A gateway running in a thread of its own, as it does in the embedded product, and a client for it."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def messages(self) -> list[Any]:
        """Those of an event stream."""
        assert self.headers["content-type"] == "text/event-stream", self.body
        lines = self.body.decode().splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    @property
    def result(self) -> Any:
        assert self.status == 200, self.body
        return self.json["result"]

    @property
    def error(self) -> Any:
        return self.json["error"]


class GatewayDriver:
    """Sends requests to the ASGI application itself. `at` is `<tenant>/<server>`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, app: Any) -> None:
        self._loop = loop
        self.app = app

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    def settle(self) -> None:
        """Let the gateway see all that was committed so far."""
        self.run(self.app.plane.directory.catch_up())

    def send(
        self,
        path: str,
        body: bytes = b"",
        *,
        verb: str = "POST",
        headers: Mapping[str, str] | None = None,
        more: list[dict[str, Any]] | None = None,
    ) -> Reply:
        return self.run(self.send_async(path, body, verb=verb, headers=headers, more=more))

    async def send_async(
        self,
        path: str,
        body: bytes = b"",
        *,
        verb: str = "POST",
        headers: Mapping[str, str] | None = None,
        more: list[dict[str, Any]] | None = None,
    ) -> Reply:
        fields = {
            "host": "testserver",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        fields |= {name.lower(): value for name, value in (headers or {}).items()}
        scope = {
            "type": "http",
            "method": verb,
            "path": path,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields.items() if value],
            "client": ("127.0.0.1", 1),
        }
        waiting = more if more is not None else [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[dict[str, Any]] = []
        done = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if waiting:
                return waiting.pop(0)
            await done.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        done.set()
        if not sent:
            return Reply(0, {}, b"")
        received = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        content = b"".join(part["body"] for part in sent[1:])
        if received.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        return Reply(sent[0]["status"], received, content)

    def modern(
        self,
        at: str,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        meta: Mapping[str, Any] | None = None,
        identifier: int | str = 1,
    ) -> Reply:
        """One request of revision 2026-07-28."""
        params = dict(params or {})
        full = (
            {META + "protocolVersion": MODERN, META + "clientCapabilities": {}}
            if meta is None
            else dict(meta)
        )
        name = params.get("name", params.get("uri"))
        fields = {"mcp-protocol-version": MODERN, "mcp-method": method}
        if method in {"tools/call", "prompts/get", "resources/read"} and name:
            fields["mcp-name"] = str(name)
        if key:
            fields["authorization"] = f"Bearer {key}"
        body = {"jsonrpc": "2.0", "id": identifier, "method": method, "params": params | {"_meta": full}}
        return self.send(f"/t/{at}/mcp", json.dumps(body).encode(), headers=fields | dict(headers or {}))

    def call(self, at: str, tool: str, arguments: Mapping[str, Any] | None = None, *, key: str = "") -> Any:
        """The result of a tool, or an AssertionError with the body."""
        return self.modern(
            at, "tools/call", {"name": tool, "arguments": dict(arguments or {})}, key=key
        ).result

    def session(self, at: str, revision: str, *, key: str = "") -> Session:
        opened = self.legacy(
            at,
            "initialize",
            {
                "protocolVersion": revision,
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
            key=key,
        )
        assert opened.status == 200, opened.body
        return Session(self, at, revision, opened.headers["mcp-session-id"], key, opened.result)

    def legacy(
        self,
        at: str,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        session: str = "",
        headers: Mapping[str, str] | None = None,
        identifier: int | str | None = 1,
    ) -> Reply:
        body: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if identifier is not None:
            body["id"] = identifier
        if params is not None:
            body["params"] = dict(params)
        fields = {"authorization": f"Bearer {key}" if key else "", "mcp-session-id": session}
        return self.send(f"/t/{at}/mcp", json.dumps(body).encode(), headers=fields | dict(headers or {}))


@dataclass(frozen=True, slots=True)
class Session:
    """A handshake session with a gateway."""

    driver: GatewayDriver
    at: str
    revision: str
    token: str
    key: str
    opened: Any

    def request(self, method: str, params: Mapping[str, Any] | None = None, **more: Any) -> Reply:
        headers = {"mcp-protocol-version": self.revision} | more.pop("headers", {})
        more = {"key": self.key, "session": self.token} | more
        return self.driver.legacy(self.at, method, params, headers=headers, **more)


@pytest.fixture(scope="session")
def gateway(database: None) -> Iterator[GatewayDriver]:
    from servers.gateway.app import Gateway
    from servers.gateway.lifespan import running_plane

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway")
    thread.start()
    app = Gateway()
    driver = GatewayDriver(loop, app)
    plane = running_plane(watches=False)  # peers of tests count who asks them
    app.plane = driver.run(plane.__aenter__())
    try:
        yield driver
    finally:
        driver.run(plane.__aexit__(None, None, None))
        driver.run(loop.shutdown_default_executor())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
