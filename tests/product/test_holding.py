"""What holds while things change and break: publishing under load, and the death of the serving process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from django.db import connections

from mooring.scope import tenant_scope
from servers import services
from servers.models import Server
from tenants.models import Plan
from tenants.services import change_plan
from tests.conftest import World
from tests.installation import Installation, installed
from tests.product.processes import ProcessDriver, echo, host, key_for, until

MODERN = "2026-07-28"
PUBLISHES = 4
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """One of its own, since these tests kill it."""
    with installed(tmp_path / "data") as made:
        yield made


def deployed(installation: Installation, tenant: str, folder: Path) -> str:
    path = folder / "echo.json"
    path.write_text(json.dumps(echo("echo0")))
    return installation.ok("deploy", str(path), "--tenant", tenant, "--server", "echo").splitlines()[-1]


async def call(http: aiohttp.ClientSession, url: str, key: str) -> tuple[int, str]:
    """Status and request id of one call of the first tool."""
    return (await asked(http, url, key))[:2]


async def asked(http: aiohttp.ClientSession, url: str, key: str) -> tuple[int, str, str]:
    """As `call`, with the body."""
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "echo0", "arguments": {"a": 1}, "_meta": META},
    }
    headers = {
        "Authorization": f"Bearer {key}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "echo0",
    }
    async with http.post(url, json=body, headers=headers) as answer:
        return answer.status, answer.headers["X-Request-Id"], await answer.text()


def logged(installation: Installation, tenant: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = installation.json("calls", "--tenant", tenant, "--limit", "5000")
    return rows


def saying(number: int) -> dict[str, Any]:
    tool = {"name": "echo0", "input_schema": {"type": "object"}}
    tool["static"] = {"kind": "text", "text": f"version {number}"}
    return {"mooring": 1, "server": {"title": "Desk"}, "tools": [tool]}


def test_publishing_while_fifty_clients_call_without_a_pause_loses_no_call(
    world: World, serving: ProcessDriver
) -> None:
    rates = dict.fromkeys(("calls_per_minute", "calls_per_minute_per_key"), 10**9)
    plan = Plan.objects.create(name=f"wide-{world.acme.slug}", **rates)
    with tenant_scope(world.acme.id):
        change_plan(world.acme, plan=plan, actor=world.actor)
    at, key = host(world, saying(0)), key_for(world)
    url, answers = f"http://127.0.0.1:{serving.port}/t/{at}/mcp", Counter[tuple[int, str]]()

    def publish() -> None:
        for number in range(1, PUBLISHES + 1):
            until(lambda before=number - 1: answers[200, f"version {before}"] >= 100, "the clients to call")
            with tenant_scope(world.acme.id):
                server = Server.objects.get(slug="desk")
                services.replace_draft(server, saying(number), actor=world.actor)
                services.publish(server, actor=world.actor)
        until(lambda: answers[200, f"version {PUBLISHES}"] >= 100, "the last version")
        connections.close_all()

    async def client(http: aiohttp.ClientSession, publishing: asyncio.Task[None]) -> None:
        while not publishing.done():
            status, _, body = await asked(http, url, key)
            answers[status, re.findall(r"version \d|$", body)[0]] += 1

    async def load() -> None:
        publishing = asyncio.create_task(asyncio.to_thread(publish))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as http:
            await asyncio.gather(publishing, *(client(http, publishing) for _ in range(50)))

    asyncio.run(load())
    assert set(answers) == {(200, f"version {number}") for number in range(PUBLISHES + 1)}


def test_every_answered_call_is_logged_once_though_the_process_is_killed_three_times(
    installation: Installation, tmp_path: Path
) -> None:
    tenant = installation.tenant()
    url, key = deployed(installation, tenant, tmp_path), installation.key(tenant)
    calls, answered = (2_000 if os.environ.get("MOORING_SOAK") else 200), list[str]()

    async def client(http: aiohttp.ClientSession, share: int) -> None:
        done = 0
        while done < share:
            try:
                status, request_id = await call(http, url, key)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.05)
                continue
            if status == 200:
                answered.append(request_id)
                done += 1
            else:
                assert status in {429, 503}
                await asyncio.sleep(0.05)

    async def killer() -> None:
        for part in (1, 2, 3):
            while len(answered) < calls * part // 4:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(installation.kill)
            await asyncio.to_thread(installation.start)

    async def load() -> None:
        async with aiohttp.ClientSession() as http:
            await asyncio.gather(killer(), *(client(http, calls // 8) for _ in range(8)))

    asyncio.run(load())
    installation.stop()
    ids = [row["request_id"] for row in logged(installation, tenant)]
    assert len(ids) == len(set(ids))
    assert set(answered) <= set(ids)


def children_of(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread does it from the start")
def test_calls_are_logged_once_though_the_process_that_ships_them_dies_with_some_of_them_unshipped(
    installation: Installation, tmp_path: Path
) -> None:
    tenant = installation.tenant()
    url, key = deployed(installation, tenant, tmp_path), installation.key(tenant)
    assert installation.server is not None
    (shipping,) = children_of(installation.server.pid)

    async def some() -> set[str]:
        async with aiohttp.ClientSession() as http:
            return {(await call(http, url, key))[1] for _ in range(20)}

    answered = asyncio.run(some())
    until(lambda: len(logged(installation, tenant)) == 20, "the first calls in the log")
    os.kill(shipping, signal.SIGSTOP)
    answered |= asyncio.run(some())
    os.kill(shipping, signal.SIGKILL)
    answered |= asyncio.run(some())
    until(lambda: len(logged(installation, tenant)) >= 60, "the other calls in the log")
    assert children_of(installation.server.pid) == []
    assert sorted(row["request_id"] for row in logged(installation, tenant)) == sorted(answered)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread does it from the start")
def test_what_was_not_shipped_when_the_server_is_killed_is_shipped_without_it(
    installation: Installation, tmp_path: Path
) -> None:
    tenant = installation.tenant()
    url, key = deployed(installation, tenant, tmp_path), installation.key(tenant)
    assert installation.server is not None
    (shipping,) = children_of(installation.server.pid)
    os.kill(shipping, signal.SIGSTOP)

    async def one() -> str:
        async with aiohttp.ClientSession() as http:
            return (await call(http, url, key))[1]

    answered = asyncio.run(one())
    installation.kill()
    assert logged(installation, tenant) == []
    os.kill(shipping, signal.SIGCONT)
    until(lambda: logged(installation, tenant), "the call in the log")
    assert [row["request_id"] for row in logged(installation, tenant)] == [answered]
    until(lambda: not Path(f"/proc/{shipping}").exists(), "the end of the process that shipped it")
