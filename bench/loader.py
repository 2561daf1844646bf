"""A closed loop of keep-alive clients: wrk where there is one, else the same in asyncio.

Run as a program it is the second: `python bench/loader.py HOST PORT CONNECTIONS SECONDS < request`, prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import LOADER_CORE, on_core

_WRK_SCRIPT = """
wrk.method = "POST"
wrk.body = %(body)s
%(headers)s
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"calls": %%d, "seconds": %%f, "errors": %%d, "p50": %%f, "p95": %%f, "p99": %%f}\\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True, slots=True)
class Request:
    port: int
    path: str
    headers: dict[str, str]
    body: bytes

    def raw(self) -> bytes:
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Content-Length: {len(self.body)}",
        ]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True, slots=True)
class Load:
    """`p50`, `p95` and `p99` in milliseconds."""

    calls: int
    seconds: float
    errors: int
    p50: float
    p95: float
    p99: float


def name() -> str:
    return "wrk" if shutil.which("wrk") else "asyncio"


def load(request: Request, *, connections: int, seconds: float) -> Load:
    run = _by_wrk if shutil.which("wrk") else _by_asyncio
    with on_core(LOADER_CORE):
        return Load(**json.loads(run(request, connections, seconds)))


def _by_wrk(request: Request, connections: int, seconds: float) -> str:
    headers = "\n".join(
        f"wrk.headers[{json.dumps(key)}] = {json.dumps(value)}" for key, value in request.headers.items()
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_WRK_SCRIPT % {"body": json.dumps(request.body.decode()), "headers": headers})
        script.flush()
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "10s",
            "-s",
            script.name,
        ]
        url = f"http://127.0.0.1:{request.port}{request.path}"
        done = subprocess.run([*command, url], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def _by_asyncio(request: Request, connections: int, seconds: float) -> str:
    command = [sys.executable, __file__, str(request.port), str(connections), str(seconds)]
    return subprocess.run(command, input=request.raw(), capture_output=True, check=True).stdout.decode()


class _Client(asyncio.Protocol):
    """Sends the request, waits for the whole answer, sends it again."""

    def __init__(self, raw: bytes, times: list[float], errors: list[bytes]) -> None:
        self._raw, self._times, self._errors = raw, times, errors
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._raw)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            return
        self._times.append(time.perf_counter() - self._sent)
        if not head.startswith(b"HTTP/1.1 200"):
            self._errors.append(head)
        self._buffer = b""
        self._send()


async def _run(raw: bytes, port: int, connections: int, seconds: float) -> dict[str, float]:
    times: list[float] = []
    errors: list[bytes] = []
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    clients = [
        await loop.create_connection(lambda: _Client(raw, times, errors), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    for transport, _ in clients:
        transport.abort()
    return {"calls": len(times), "seconds": took, "errors": len(errors), **_percentiles(times)}


def _percentiles(times: list[float]) -> dict[str, float]:
    ordered = sorted(times) or [0.0]
    return {
        f"p{part}": ordered[min(len(ordered) - 1, len(ordered) * part // 100)] * 1e3 for part in (50, 95, 99)
    }


if __name__ == "__main__":
    import uvloop

    arguments = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    print(json.dumps(uvloop.run(_run(Path("/dev/stdin").read_bytes(), *arguments))))
