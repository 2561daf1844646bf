"""The playground as an ordinary MCP client of `@draft`: one POST of revision 2026-07-28 over HTTP."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from mooring.dashboard.answer_content import Block, blocks_of
from mooring.dashboard.requests import PageRequest
from mooring.errors import Unavailable
from servers.models import Server, Tool
from servers.protocol.headers import encoded, mirrored_parameters
from tenants.playground_tokens import issue

REVISION = "2026-07-28"
# Longer than any tool may take, so that the gateway's own deadline answers first.
TIMEOUT_SECONDS = 330
MAX_ANSWER = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PlaygroundAnswer:
    request_json: str
    answer_json: str
    status: int
    duration_ms: float

    @property
    def answer(self) -> Any:
        """The answer parsed, or None when it is not JSON."""
        try:
            return json.loads(self.answer_json)
        except ValueError:
            return None

    @property
    def result(self) -> Mapping[str, Any]:
        found = self.answer
        result = found.get("result") if isinstance(found, dict) else None
        return result if isinstance(result, dict) else {}

    @property
    def blocks(self) -> list[Block]:
        return blocks_of(self.result.get("content"))

    @property
    def is_good(self) -> bool:
        return self.status == 200 and bool(self.result) and not self.result.get("isError")


def call(request: PageRequest, server: Server, tool: Tool, arguments: Mapping[str, Any]) -> PlaygroundAnswer:
    """Call a tool of the draft as the signed-in person. Raises `Unavailable` when no gateway answers."""
    tenant = request.access.tenant
    body = json.dumps(_message(tool.name, arguments), indent=2, ensure_ascii=False)
    token = issue(user=request.user.pk, tenant=tenant.id, server=server.id)
    headers = _headers(tool, arguments) | {"Authorization": f"Bearer {token}"}
    start = time.perf_counter()
    status, answer = _post(f"/t/{tenant.slug}/{server.slug}@draft/mcp", body.encode(), headers)
    elapsed = (time.perf_counter() - start) * 1_000
    return PlaygroundAnswer(body, _readable(answer), status, elapsed)


def _message(tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientInfo": {"name": "mooring-playground", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": dict(arguments), "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def _headers(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, str]:
    found = {
        "Host": urlsplit(settings.ORIGIN).netloc,
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": REVISION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": encoded(tool.name),
    }
    for parameter in mirrored_parameters(tool.input_schema):
        value: Any = arguments
        for step in parameter.path:
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is not None:
            found[parameter.header] = encoded(value if isinstance(value, str) else json.dumps(value))
    return found


def _post(path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
    gateway = urlsplit(settings.GATEWAY_URL)
    make = http.client.HTTPSConnection if gateway.scheme == "https" else http.client.HTTPConnection
    connection = make(gateway.hostname or "127.0.0.1", gateway.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            f"The gateway at {settings.GATEWAY_URL} did not answer ({type(error).__name__}). Check that it runs."
        ) from error
    finally:
        connection.close()


def _readable(answer: bytes) -> str:
    text = answer.decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
