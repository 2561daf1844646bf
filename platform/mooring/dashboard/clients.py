"""What to paste into each client to connect it. Pure: a name and a URL in, texts out."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from urllib.parse import quote, urlencode

KEY = "YOUR_KEY"


@dataclass(frozen=True, slots=True)
class Client:
    """One client: what to do in a sentence, what to paste, and a link that does it where there is one."""

    id: str
    name: str
    text: str
    code: str
    link: str = ""


def clients(name: str, url: str, *, needs_key: bool) -> list[Client]:
    """`name` is the server's slug; it becomes the name under which the client knows the server."""
    return [make(name, url, needs_key) for make in _MAKERS]


def _headers(needs_key: bool, key: str = KEY) -> dict[str, dict[str, str]]:
    return {"headers": {"Authorization": f"Bearer {key}"}} if needs_key else {}


def _json(value: object) -> str:
    return json.dumps(value, indent=2)


def _claude_code(name: str, url: str, needs_key: bool) -> Client:
    header = f' \\\n  --header "Authorization: Bearer {KEY}"' if needs_key else ""
    return Client(
        "claude-code",
        "Claude Code",
        "Run this in a terminal, then type /mcp in Claude Code to see the server.",
        f"claude mcp add --transport http {name} {url}{header}",
    )


def _claude_desktop(name: str, url: str, needs_key: bool) -> Client:
    # A space inside an argument is lost on Windows, so the header's value travels in a variable.
    arguments = ["-y", "mcp-remote", url]
    entry: dict[str, object] = {"command": "npx", "args": arguments}
    if needs_key:
        arguments += ["--header", "Authorization:${AUTH_HEADER}"]
        entry["env"] = {"AUTH_HEADER": f"Bearer {KEY}"}
    return Client(
        "claude-desktop",
        "Claude Desktop",
        "Open Settings, Developer, Edit Config; add this and restart the application. It needs Node.js.",
        _json({"mcpServers": {name: entry}}),
    )


def _cursor(name: str, url: str, needs_key: bool) -> Client:
    entry = {"url": url} | _headers(needs_key)
    config = base64.b64encode(json.dumps(entry).encode()).decode()
    return Client(
        "cursor",
        "Cursor",
        "Install it by the link, or put this into ~/.cursor/mcp.json.",
        _json({"mcpServers": {name: entry}}),
        "cursor://anysphere.cursor-deeplink/mcp/install?" + urlencode({"name": name, "config": config}),
    )


def _vscode(name: str, url: str, needs_key: bool) -> Client:
    entry = {"type": "http", "url": url} | _headers(needs_key, "${input:mooring-key}")
    asked = [{"type": "promptString", "id": "mooring-key", "description": "API key", "password": True}]
    inputs = {"inputs": asked} if needs_key else {}
    text = "Install it by the link, or put this into .vscode/mcp.json."
    if needs_key:
        text += " VS Code asks for the key once and keeps it safe."
    return Client(
        "vscode",
        "VS Code",
        text,
        _json({**inputs, "servers": {name: entry}}),
        "vscode:mcp/install?" + quote(json.dumps({"name": name, **entry, **inputs}), safe=""),
    )


def _codex(name: str, url: str, needs_key: bool) -> Client:
    lines = [f"[mcp_servers.{name}]", f'url = "{url}"']
    if needs_key:
        lines.append(f'bearer_token_env_var = "{_variable(name)}"')
    text = "Put this into ~/.codex/config.toml."
    if needs_key:
        text += f" Codex reads the key from the environment: export {_variable(name)}={KEY}"
    return Client("codex", "Codex", text, "\n".join(lines))


def _variable(name: str) -> str:
    """An environment variable's name; those may not begin with a digit."""
    plain = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
    return f"MCP_{plain}_KEY" if plain[:1].isdigit() else f"{plain}_KEY"


def _python(_name: str, url: str, needs_key: bool) -> Client:
    target = f'"{url}"'
    before, imports = "", "from mcp import Client\n"
    if needs_key:
        imports = f"import httpx2\n{imports}from mcp.client.streamable_http import streamable_http_client\n"
        before = f'    http = httpx2.AsyncClient(headers={{"Authorization": "Bearer {KEY}"}})\n'
        target = f'streamable_http_client("{url}", http_client=http)'
    return Client(
        "python",
        "Python",
        "pip install mcp (version 2)",
        f"import asyncio\n\n{imports}\n\nasync def main():\n{before}    async with Client({target}) as client:\n"
        "        tools = await client.list_tools()\n        print([tool.name for tool in tools.tools])\n\n\n"
        "asyncio.run(main())",
    )


def _typescript(_name: str, url: str, needs_key: bool) -> Client:
    return Client(
        "typescript",
        "TypeScript",
        "npm install @modelcontextprotocol/client (version 2 of the SDK)",
        'import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";\n\n'
        + _connected(url, needs_key, ', { versionNegotiation: { mode: "auto" } }'),
    )


def _typescript_v1(_name: str, url: str, needs_key: bool) -> Client:
    return Client(
        "typescript-v1",
        "TypeScript v1",
        "npm install @modelcontextprotocol/sdk (version 1 of the SDK)",
        'import { Client } from "@modelcontextprotocol/sdk/client/index.js";\n'
        'import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";\n\n'
        + _connected(url, needs_key),
    )


def _connected(url: str, needs_key: bool, options: str = "") -> str:
    """What both versions have in common; `options` are the client's."""
    request = f'{{ headers: {{ Authorization: "Bearer {KEY}" }} }}'
    with_key = f", {{\n  requestInit: {request},\n}}" if needs_key else ""
    return (
        f'const transport = new StreamableHTTPClientTransport(new URL("{url}"){with_key});\n'
        f'const client = new Client({{ name: "my-program", version: "1.0.0" }}{options});\n'
        "await client.connect(transport);\n\n"
        "const { tools } = await client.listTools();\n"
        "console.log(tools.map((tool) => tool.name));\n"
        "await client.close();"
    )


def _curl(_name: str, url: str, needs_key: bool) -> Client:
    header = f'  -H "Authorization: Bearer {KEY}" \\\n' if needs_key else ""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    return Client(
        "curl",
        "curl",
        "One request lists the tools.",
        f"curl {url} \\\n{header}"
        '  -H "Content-Type: application/json" -H "Accept: application/json, text/event-stream" \\\n'
        '  -H "MCP-Protocol-Version: 2026-07-28" -H "Mcp-Method: tools/list" \\\n'
        f"  -d '{json.dumps(body)}'",
    )


_MAKERS = (
    _claude_code,
    _claude_desktop,
    _cursor,
    _vscode,
    _codex,
    _python,
    _typescript,
    _typescript_v1,
    _curl,
)
