"""What operators learn of calls: the numbers that are scraped, and lines that carry the request's id."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from django.http import HttpRequest
from django.test import Client, override_settings
from django.urls import path
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import World
from tests.mooring.test_health import ask
from tests.servers.conftest import GatewayDriver
from tests.servers.gateway.test_calls import MANIFEST, published

Numbers = dict[tuple[str, str], float]  # (name of the sample, values of its labels) → value


async def scraped() -> Numbers:
    status, _, body = await ask("/metrics")
    assert status == 200
    return {
        (sample.name, " ".join(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name.startswith("mcp_") and "le" not in sample.labels
    }


def test_every_call_is_counted_by_method_and_status_and_timed_by_stage(
    gateway: GatewayDriver, world: World, key_of: Callable[..., str]
) -> None:
    at, key = published(world, gateway, MANIFEST), key_of(world.acme)
    before = asyncio.run(scraped())
    asked: list[tuple[str, dict[str, Any]]] = [
        ("tools/call", {"name": "greet", "arguments": {"name": "Ann"}}),
        ("tools/call", {"name": "echo", "arguments": {"text": 5}}),
        ("tools/call", {"name": "no_such_tool"}),
        ("no/such/method", {}),
    ]
    headers = [{"mcp-param-name": "Ann"}, {}, {}, {}]
    replies = [
        gateway.modern(at, method, params, key=key, headers=more)
        for (method, params), more in zip(asked, headers, strict=True)
    ]
    after = asyncio.run(scraped())
    assert [reply.status for reply in replies][:2] == [200, 200]
    assert [reply.json.get("result", {}).get("isError") for reply in replies[:2]] == [None, True]

    changed = {name: value - before[name] for name, value in after.items() if value != before[name]}
    assert {name: by for name, by in changed.items() if name[0] == "mcp_requests_total"} == {
        ("mcp_requests_total", "tools/call ok"): 1,
        ("mcp_requests_total", "tools/call error"): 1,
        ("mcp_requests_total", "tools/call refused"): 1,
        ("mcp_requests_total", "other refused"): 1,
    }
    assert changed["mcp_request_duration_seconds_count", "tools/call"] == 3
    assert changed["mcp_request_duration_seconds_count", "other"] == 1
    assert 0 < changed["mcp_request_duration_seconds_sum", "tools/call"] < 30
    stages = {
        labels: by for (name, labels), by in changed.items() if name == "mcp_stage_duration_seconds_count"
    }
    assert stages == {"authenticate": 4, "admit": 4, "run": 1, "record": 4}


def test_what_is_being_worked_on_is_counted_while_it_is(gateway: GatewayDriver, world: World) -> None:
    at = published(world, gateway, MANIFEST, is_public=True)

    async def during() -> tuple[Numbers, Numbers, Numbers]:
        waits, nothing = asyncio.Event(), asyncio.Event()

        async def receive() -> dict[str, Any]:
            waits.set()
            await nothing.wait()
            return {}

        async def send(_: dict[str, Any]) -> None:
            """Nobody reads it."""

        headers = [(b"host", b"testserver"), (b"content-type", b"application/json")]
        headers.append((b"accept", b"application/json, text/event-stream"))
        scope = {
            "type": "http",
            "method": "POST",
            "path": f"/t/{at}/mcp",
            "headers": headers,
            "client": ("127.0.0.1", 1),
        }
        before = await scraped()
        call = asyncio.create_task(gateway.app(scope, receive, send))
        await waits.wait()
        meanwhile = await scraped()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        return before, meanwhile, await scraped()

    numbers = [found["mcp_active_connections", ""] for found in gateway.run(during())]
    assert numbers == [0, 1, 0]


@pytest.fixture
def lines() -> Iterator[Callable[[], list[Any]]]:
    """What is logged meanwhile, as the installation writes it."""
    root, written = logging.getLogger(), io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(
        next(
            one.formatter
            for one in root.handlers
            if isinstance(one.formatter, structlog.stdlib.ProcessorFormatter)
        )
    )
    root.addHandler(handler)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.removeHandler(handler)


class BrokenQuotas:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("broken")


def test_a_bug_in_a_call_is_a_line_with_the_id_that_the_client_was_told(
    gateway: GatewayDriver, world: World, key_of: Callable[..., str], lines: Callable[[], list[Any]]
) -> None:
    at, key = published(world, gateway, MANIFEST), key_of(world.acme)
    plane = gateway.app.plane
    kept, plane.quotas = plane.quotas, BrokenQuotas()
    try:
        reply = gateway.modern(at, "tools/list", key=key)
    finally:
        plane.quotas = kept
    (line,) = [line for line in lines() if line["event"] == "gateway.failed"]
    assert reply.status == 500
    assert line["request_id"] == reply.headers["x-request-id"] == reply.error["data"]["requestId"]
    assert (line["level"], "RuntimeError: broken" in line["exception"]) == ("error", True)


def page(request: HttpRequest) -> Any:
    structlog.get_logger("page").warning("page.opened", password="hunter2")
    raise RuntimeError("broken")


urlpatterns = [path("page", page)]


def test_every_line_of_a_page_carries_the_id_that_the_answer_has(lines: Callable[[], list[Any]]) -> None:
    with override_settings(ROOT_URLCONF=__name__):
        answers = [Client(raise_request_exception=False).get("/page") for _ in range(2)]
    ids = [answer["X-Request-Id"] for answer in answers]
    assert len({*ids}) == 2
    written = [line for line in lines() if line["logger"] in {"page", "django.request"}]
    assert [line["request_id"] for line in written] == [ids[0], ids[0], ids[1], ids[1]]
    assert {line.get("password") for line in written} == {"***", None}
