"""Builds in tests: a server that speaks the protocol by hand, and indexes it is built from."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from servers.runner.building.builds import Builder, Built, Source
from servers.runner.building.progress import Event
from servers.runner.errors import Unbuildable
from servers.runner.sandbox.cgroups import Limiter
from servers.runner.sandbox.users import Users
from tests.servers.runner.building.test_archives import zipped

# One moment for all builds of a run, so that what is locked is the same.
WHEN = datetime.now(UTC)
USER = 269_000
# Speaks the protocol by hand, so that it needs no SDK: no environment has to be installed for it.
BY_HAND = """
import json, os, sys
sys.stderr.write("started with " + os.environ["TRANSPORT"] + chr(10))
TOOLS = [{"name": "probe", "description": DESCRIPTION, "inputSchema": {"type": "object"}}]
for line in sys.stdin:
    asked = json.loads(line)
    answers = {
        "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "hand"}},
        "tools/list": {"tools": TOOLS},
    }
    if "id" in asked:
        known = asked["method"] in answers
        answer = {"result": answers[asked["method"]]} if known else {"error": {"code": -32601, "message": "no"}}
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **answer}), flush=True)
"""


def server(description: str = "'nothing'", before: str = "") -> str:
    """`description` is an expression whose value the build gets to see."""
    return f"{before}\nDESCRIPTION = str(({description}))\n{BY_HAND}"


def needing(*requirements: str, code: str = "") -> bytes:
    return zipped(
        {"server.py": (code or server()).encode(), "requirements.txt": "\n".join(requirements).encode()}
    )


def environ_of(shelf: Path) -> dict[str, str]:
    """Our own environment, with the operator's configuration of pip replaced."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf)}


def builder_in(store: Path, limiter: Limiter, environ: dict[str, str]) -> Builder:
    return Builder(store, limiter, Users(USER, 100), environ=environ)


async def build(builder: Builder, data: bytes, events: list[Event] | None = None, **options: object) -> Built:
    heard = [] if events is None else events
    return await builder.build(Source(data, "upload", WHEN, **options), heard.append)  # type: ignore[arg-type]


async def refused(
    builder: Builder, data: bytes, events: list[Event] | None = None, **options: object
) -> Unbuildable:
    with pytest.raises(Unbuildable) as caught:
        await build(builder, data, events, **options)
    return caught.value


def seen(made: Built) -> str:
    return str(made.offer.tools[0]["description"])


# ---- the index -----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def web_index(shelf: Path) -> AsyncIterator[tuple[int, list[str]]]:
    """A package index on the web, with pages that link to files, and what it was asked for."""
    asked: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            asked.append(head)
            wheel = shelf / path.rpartition("/")[2]
            if path == "/simple/plain/":
                body, kind = (
                    b'<a href="../../files/plain-1.0-py3-none-any.whl">plain-1.0-py3-none-any.whl</a>',
                    "text/html",
                )
            elif path.startswith("/files/") and wheel.is_file():
                body, kind = wheel.read_bytes(), "application/octet-stream"
            else:
                body, kind = b"", ""
            status = "200 OK" if kind else "404 Not Found"
            length = len(body)
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n".encode()
            )
            writer.write(b"Connection: close\r\n\r\n" + (b"" if head.startswith("HEAD") else body))
            await writer.drain()
        writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1], asked
    finally:
        listener.close()


def web_environ(port: int, credentials: str = "") -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    return {**kept, "UV_DEFAULT_INDEX": f"http://{credentials}127.0.0.1:{port}/simple"}
