"""The servers that are measured, and the request each is asked."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loader import Request
from processes import LOADER_CORE, SERVER_CORE, started, wait_for

ROOT = Path(__file__).resolve().parent.parent
BENCH = Path(__file__).resolve().parent
MOORING = str(Path(sys.executable).parent / "mooring")
MODERN, SESSIONS = "2026-07-28", "2025-11-25"
RELAY_TO_MCP = "bare aiohttp relay to an MCP server"
# Starts an application of apps.py on a core: name, core, uvicorn's flags, environment → process, port, log.
Start = Callable[..., tuple[int, int, Path]]
_META = "io.modelcontextprotocol/"
# The flags of `mooring serve`, so that the comparison is of applications.
_UVICORN = (
    "--loop uvloop --http httptools --ws none --no-access-log --no-server-header --no-proxy-headers".split()
)
_ECHO = {
    "name": "echo",
    "description": "Gives a text back.",
    "input_schema": {
        "type": "object",
        "properties": {"text": {"type": "string", "maxLength": 1000}},
        "required": ["text"],
        "additionalProperties": False,
    },
    "output_schema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}
# A limit is counted on every call all the same; it must only not be reached.
_LIFT_LIMITS = """
import django; django.setup()
from tenants.models import Plan
Plan.objects.update(calls_per_minute=2_000_000_000, calls_per_minute_per_key=2_000_000_000, concurrent_calls=10_000)
"""


@dataclass(frozen=True, slots=True)
class Target:
    """`baseline` is the name of the target its CPU time is compared with."""

    name: str
    pid: int
    log: Path
    request: Request
    baseline: str


def call_of(port: int, path: str, revision: str, more: Mapping[str, str] | None = None) -> Request:
    """`tools/call` of echo in the words of a revision."""
    params: dict[str, object] = {"name": "echo", "arguments": {"text": "hello"}}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": revision,
    }
    if revision == MODERN:
        info = {"name": "bench", "version": "1"}
        params["_meta"] = {
            _META + "protocolVersion": MODERN,
            _META + "clientInfo": info,
            _META + "clientCapabilities": {},
        }
        headers |= {"Mcp-Method": "tools/call", "Mcp-Name": "echo"}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    return Request(port, path, headers | dict(more or {}), body)


def send(request: Request) -> tuple[dict[str, str], bytes]:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{request.port}{request.path}", request.body, request.headers, method="POST"
    )
    with urllib.request.urlopen(asked, timeout=10) as response:
        return {name.lower(): value for name, value in response.headers.items()}, response.read()


def check(target: Target) -> None:
    """The right answer, or an exit: a fast error is no result."""
    try:
        _, body = send(target.request)
    except OSError as error:
        sys.exit(f"{target.name}: {error}\n{target.log.read_text()[-4000:]}")
    if b"hello" not in body or b'"isError":true' in body.replace(b" ", b""):
        sys.exit(f"{target.name} answers {body[:500]!r}")


@contextmanager
def running(folder: Path) -> Iterator[list[Target]]:
    """All targets at once, so that their rounds can be interleaved. Only what is measured is on the first core."""
    with ExitStack() as stack:

        def application(name: str, core: int, *flags: str, **environment: str) -> tuple[int, int, Path]:
            port = free_port()
            command = [sys.executable, "-m", "uvicorn", "--app-dir", str(BENCH), f"apps:{name}", *flags]
            command += [*_UVICORN, "--log-level", "warning", "--port", str(port)]
            log = folder / f"{name}-{port}.log"
            pid = stack.enter_context(started(command, core=core, log=log, environment=environment))
            wait_for(f"http://127.0.0.1:{port}/", log=log)
            return pid, port, log

        _, origin, _ = application("origin", LOADER_CORE, "--lifespan", "off")
        bare, bare_port, bare_log = application("bare", SERVER_CORE, "--lifespan", "off")
        address = f"http://127.0.0.1:{origin}"
        relay, relay_port, relay_log = application(
            "relay", SERVER_CORE, "--lifespan", "off", BENCH_ORIGIN=address
        )
        sdk, sdk_port, sdk_log = application("sdk", SERVER_CORE, "--factory")
        _, far_port, _ = application("sdk", LOADER_CORE, "--factory")
        far = f"http://127.0.0.1:{far_port}/mcp"
        mooring = stack.enter_context(mooring_running(folder, address, far))
        yield [
            Target("bare ASGI echo", bare, bare_log, call_of(bare_port, "/mcp", MODERN), "bare ASGI echo"),
            *mooring[:2],
            Target(
                "bare aiohttp relay",
                relay,
                relay_log,
                call_of(relay_port, "/mcp", MODERN),
                "bare aiohttp relay",
            ),
            mooring[2],
            *remotes(application, far, mooring[3]),
            Target(
                "official SDK, 2026-07-28", sdk, sdk_log, call_of(sdk_port, "/mcp", MODERN), "bare ASGI echo"
            ),
            Target(
                "official SDK, 2025-11-25",
                sdk,
                sdk_log,
                call_of(sdk_port, "/mcp", SESSIONS),
                "bare ASGI echo",
            ),
        ]


def remotes(application: Start, far: str, mooring: Target) -> Iterator[Target]:
    """The official SDK's server, which is not measured here, behind what is: a bare relay, us, and fastmcp's proxy."""
    pid, port, log = application("mcp_relay", SERVER_CORE, "--lifespan", "off", BENCH_ORIGIN=far)
    yield Target(RELAY_TO_MCP, pid, log, call_of(port, "/mcp", MODERN), RELAY_TO_MCP)
    yield mooring
    if importlib.util.find_spec("fastmcp") is None:
        sys.stderr.write("fastmcp is not installed here and is left out; `make bench` installs it.\n")
        return
    pid, port, log = application("fastmcp_proxy", SERVER_CORE, "--factory", BENCH_ORIGIN=far)
    yield Target("fastmcp proxy", pid, log, call_of(port, "/mcp", MODERN), RELAY_TO_MCP)


@contextmanager
def mooring_running(folder: Path, origin: str, far: str) -> Iterator[list[Target]]:
    """`mooring serve` with a tenant, a key and two published servers, all made by the command as anyone would."""
    port = free_port()
    environment = clean_environment() | {
        "PORT": str(port),
        "MOORING_DATA_DIR": str(folder / "data"),
        "MOORING_EGRESS_ALLOW": "127.0.0.0/8",
        "MOORING_LOG_LEVEL": "WARNING",
        "DJANGO_SETTINGS_MODULE": "mooring.settings",
    }

    def command(*arguments: str) -> str:
        done = subprocess.run(
            arguments, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{' '.join(arguments[:3])} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    command(MOORING, "migrate")
    command(sys.executable, "-c", _LIFT_LIMITS)
    command(
        MOORING,
        "tenants",
        "create",
        "bench",
        "--owner",
        "bench@example.com",
        "--password",
        "correct horse battery",
    )
    key = command(MOORING, "keys", "create", "--tenant", "bench", "--name", "bench").strip()
    for server, manifest in manifests(origin, far).items():
        path = folder / f"{server}.json"
        path.write_text(json.dumps(manifest))
        command(MOORING, "deploy", str(path), "--tenant", "bench", "--server", server)
    log = folder / "mooring.log"
    with started(
        [MOORING, "serve", "--port", str(port)], core=SERVER_CORE, log=log, environment=environment
    ) as pid:
        wait_for(f"http://127.0.0.1:{port}/healthz", log=log)
        bearer = {"Authorization": f"Bearer {key}"}
        static = call_of(port, "/t/bench/echo/mcp", MODERN, bearer)
        session = call_of(port, "/t/bench/echo/mcp", SESSIONS, bearer | session_of(port, bearer))
        http = call_of(port, "/t/bench/http/mcp", MODERN, bearer)
        remote = call_of(port, "/t/bench/remote/mcp", MODERN, bearer)
        yield [
            Target("Mooring, static tool, 2026-07-28", pid, log, static, "bare ASGI echo"),
            Target("Mooring, static tool, 2025-11-25", pid, log, session, "bare ASGI echo"),
            Target("Mooring, http tool", pid, log, http, "bare aiohttp relay"),
            Target("Mooring, remote tool", pid, log, remote, RELAY_TO_MCP),
        ]


def clean_environment() -> dict[str, str]:
    """Without settings of the person who measures; the embedded set-up is what is measured."""
    ours = ("MOORING_", "DATABASE_", "REDIS_URL", "SENTRY_DSN")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def manifests(origin: str, far: str) -> dict[str, dict[str, object]]:
    http = {
        "method": "GET",
        "url": origin + "/v1/echo/{text}",
        "parameters": [{"in": "path", "name": "text", "argument": "text"}],
    }
    # No worker looks at the upstream here, so there is nothing that the digest is compared with.
    remote = {"upstream": "sdk", "name": "echo", "digest": "0" * 64}
    return {
        "echo": {
            "mooring": 1,
            "server": {"title": "Echo"},
            "tools": [_ECHO | {"static": {"kind": "echo"}}],
        },
        "http": {"mooring": 1, "server": {"title": "HTTP"}, "tools": [_ECHO | {"http": http}]},
        "remote": {
            "mooring": 1,
            "server": {"title": "Remote"},
            "upstreams": {"sdk": {"url": far}},
            "tools": [_ECHO | {"remote": remote}],
        },
    }


def session_of(port: int, headers: Mapping[str, str]) -> dict[str, str]:
    """The session header that a client of the handshake era sends with each call."""
    params = {
        "protocolVersion": SESSIONS,
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    }
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    media = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    answered, _ = send(Request(port, "/t/bench/echo/mcp", media | dict(headers), json.dumps(body).encode()))
    return {"Mcp-Session-Id": answered["mcp-session-id"]}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
