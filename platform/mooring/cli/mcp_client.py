"""A small MCP client over Streamable HTTP: one tool call, in any revision the platform speaks.

2026-07-28 needs a single request. Older revisions open with a handshake and may bind the client to a session.
Answers come as one JSON object or as a stream of events; both are read.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from mooring import __version__
from mooring.cli.failures import Refused
from mooring.cli.remote import connection_to, no_answer

LATEST = "2026-07-28"
REVISIONS = ("2025-03-26", "2025-06-18", "2025-11-25", LATEST)
_HEADER_MISMATCH = -32020
_MAX_PAGES = 100
_META = "io.modelcontextprotocol/"
_CLIENT = {"name": "mooring", "version": __version__}
_PLAIN = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")
Message = dict[str, Any]


def call_tool(url: str, tool: str, arguments: Message, *, key: str, revision: str) -> Message:
    """The tool's result. Raises `Refused` when the server refuses the call and `Unreachable` without an answer."""
    client = (_Modern if revision == LATEST else _Handshake)(_Wire(url, key), revision)
    return client.call_tool(tool, arguments)


@dataclass(slots=True)
class _Answer:
    status: int
    headers: http.client.HTTPMessage
    messages: list[Message]
    text: str

    def result(self, ident: int) -> Message:
        for message in self.messages:
            if message.get("id") == ident and "result" in message:
                return dict(message["result"])
        raise self.refusal()

    def refusal(self) -> Refused:
        error = next((message["error"] for message in self.messages if "error" in message), None)
        if error is None:
            about = {
                HTTPStatus.UNAUTHORIZED: "This server needs a valid key. Give one with --key.",
                HTTPStatus.NOT_FOUND: "There is no such server, or the key does not open it.",
            }
            message = about.get(HTTPStatus(self.status)) or self.text[:200] or "It gave no reason."
            return self._refused(f"The server answered {self.status}: {message}", "http_error", {})
        data = error.get("data") if isinstance(error.get("data"), dict) else {}
        return self._refused(
            str(error.get("message")), str(data.get("code") or error.get("code")), dict(data)
        )

    def _refused(self, message: str, code: str, data: Message) -> Refused:
        return Refused(message, status=self.status, code=code, data={"details": data} if data else {})

    @property
    def error_code(self) -> int | None:
        return next((message["error"].get("code") for message in self.messages if "error" in message), None)


@dataclass(slots=True)
class _Wire:
    """Posts one message at a time."""

    url: str
    key: str
    _last: int = 0

    def request(self, method: str, params: Message, headers: Mapping[str, str]) -> tuple[_Answer, int]:
        self._last += 1
        message = {"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}
        return self.send("POST", message, headers), self._last

    def send(self, verb: str, message: Message | None, headers: Mapping[str, str]) -> _Answer:
        sent = {"Accept": "application/json, text/event-stream", "User-Agent": f"mooring/{__version__}"}
        sent |= dict(headers)
        if self.key:
            sent["Authorization"] = f"Bearer {self.key}"
        body = None if message is None else json.dumps(message).encode()
        if body is not None:
            sent["Content-Type"] = "application/json"
        url = urlsplit(self.url)
        connection = connection_to(f"{url.scheme}://{url.netloc}")
        try:
            connection.request(verb, url.path, body, sent)
            return _read(connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            raise no_answer(f"{url.scheme}://{url.netloc}", error) from None
        finally:
            connection.close()


def _read(response: http.client.HTTPResponse) -> _Answer:
    text = response.read().decode("utf-8", "replace")
    if response.headers.get_content_type() == "text/event-stream":
        messages = list(_events(text))
    else:
        messages = list(_parsed(text))
    return _Answer(response.status, response.headers, messages, text)


def _events(text: str) -> Iterator[Message]:
    for event in re.split(r"\r?\n\r?\n", text):
        lines = [line[5:].removeprefix(" ") for line in event.splitlines() if line.startswith("data:")]
        yield from _parsed("\n".join(lines))


def _parsed(text: str) -> Iterator[Message]:
    try:
        value = json.loads(text)
    except ValueError:
        return
    yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict))


@dataclass(slots=True)
class _Modern:
    wire: _Wire
    revision: str

    def call_tool(self, tool: str, arguments: Message) -> Message:
        answer, ident = self._call(tool, arguments, {})
        if answer.error_code == _HEADER_MISMATCH:
            # The tool wants some arguments repeated in headers; its schema says which.
            answer, ident = self._call(tool, arguments, _mirrored(self._schema(tool), arguments))
        return answer.result(ident)

    def _call(self, tool: str, arguments: Message, mirrored: Mapping[str, str]) -> tuple[_Answer, int]:
        headers = {"Mcp-Name": encoded(tool), **mirrored}
        return self._request("tools/call", {"name": tool, "arguments": arguments}, headers)

    def _schema(self, tool: str) -> Message:
        params: Message = {}
        for _ in range(_MAX_PAGES):
            answer, ident = self._request("tools/list", params, {})
            page = answer.result(ident)
            for row in page.get("tools", []):
                if row.get("name") == tool:
                    return dict(row.get("inputSchema") or {})
            if "nextCursor" not in page:
                break
            params = {"cursor": page["nextCursor"]}
        return {}

    def _request(self, method: str, params: Message, headers: Mapping[str, str]) -> tuple[_Answer, int]:
        meta = {
            f"{_META}protocolVersion": self.revision,
            f"{_META}clientInfo": _CLIENT,
            f"{_META}clientCapabilities": {},
        }
        routing = {"MCP-Protocol-Version": self.revision, "Mcp-Method": method}
        return self.wire.request(method, params | {"_meta": meta}, routing | dict(headers))


@dataclass(slots=True)
class _Handshake:
    wire: _Wire
    revision: str
    headers: dict[str, str] = field(default_factory=dict)

    def call_tool(self, tool: str, arguments: Message) -> Message:
        self._open()
        try:
            params = {"name": tool, "arguments": arguments}
            answer, ident = self.wire.request("tools/call", params, self.headers)
            return answer.result(ident)
        finally:
            if "Mcp-Session-Id" in self.headers:
                self.wire.send("DELETE", None, self.headers)

    def _open(self) -> None:
        params = {"protocolVersion": self.revision, "capabilities": {}, "clientInfo": _CLIENT}
        answer, ident = self.wire.request("initialize", params, {})
        agreed = answer.result(ident).get("protocolVersion")
        if agreed != self.revision:
            raise answer._refused(
                f"The server speaks {agreed}, not {self.revision}.", "unsupported_revision", {}
            )
        if session := answer.headers.get("Mcp-Session-Id"):
            self.headers["Mcp-Session-Id"] = session
        if self.revision >= "2025-06-18":
            self.headers["MCP-Protocol-Version"] = self.revision
        self.wire.send("POST", {"jsonrpc": "2.0", "method": "notifications/initialized"}, self.headers)


def encoded(value: str) -> str:
    """A header's value: plain when it is visible ASCII, else base64 between the markers of MCP."""
    if _PLAIN.fullmatch(value) and not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def _mirrored(schema: Message, arguments: Message) -> dict[str, str]:
    """`Mcp-Param-*` headers for the arguments whose schema carries `x-mcp-header`, nested ones too."""
    headers: dict[str, str] = {}
    for name, about in (schema.get("properties") or {}).items():
        value = arguments.get(name)
        if not isinstance(about, dict) or value is None:
            continue
        if header := about.get("x-mcp-header"):
            headers[f"Mcp-Param-{header}"] = encoded(value if isinstance(value, str) else json.dumps(value))
        elif isinstance(value, dict):
            headers |= _mirrored(about, value)
    return headers
