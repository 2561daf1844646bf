"""Liveness, readiness, metrics, and what a deployment may not look like."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from mooring.egress.session import session
from mooring.health import deployment, draining
from mooring.health.checks import Check, Checks, Finding, State, checks
from mooring.health.probes import health_app
from servers.pipeline import metrics
from servers.pipeline.directory import TRUST_SECONDS, Directory
from servers.pipeline.journal import Journal
from servers.pipeline.parts import Runtimes
from servers.pipeline.shipping import Shipper
from servers.runner.engine import Capabilities, RunSpec
from servers.runtimes.upstreams import Upstreams
from tests.runners import FakeRunner, fake_runner

__all__ = ["fake_runner"]
LOOPBACK, ELSEWHERE = ("127.0.0.1", 5), ("203.0.113.9", 5)


async def ask(
    path: str, *, client: tuple[str, int] = LOOPBACK, method: str = "GET", **headers: str
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of a probe's answer."""
    sent: list[MutableMapping[str, Any]] = []
    fields = {"host": "localhost:8000"} | headers
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "client": client,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()],
    }

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    await health_app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@pytest.fixture
def drained() -> Iterator[None]:
    draining.start()
    yield
    draining.stop()


@pytest.mark.parametrize("path", ["/healthz", "/health"])
async def test_everybody_may_ask_whether_we_live(path: str) -> None:
    assert (await ask(path, client=ELSEWHERE))[::2] == (200, b"healthy\n")


@pytest.mark.parametrize("path", ["/readyz", "/ready"])
async def test_readiness_tells_this_machine_every_check_and_its_time(path: str) -> None:
    status, headers, body = await ask(path)
    report = json.loads(body)
    assert status == 200
    assert headers[b"content-type"] == b"application/json"
    assert set(report["checks"]) == {"database", "bus", "disk", "memory", "journal", "changes", "runner"}
    for check in report["checks"].values():
        assert check["status"] in {"healthy", "degraded"}
        assert check["seconds"] >= 0


async def test_readiness_tells_others_one_word() -> None:
    status, _, body = await ask("/readyz", client=ELSEWHERE)
    assert status == 200
    assert body in {b"healthy\n", b"degraded\n"}


async def test_a_draining_process_is_not_ready_and_still_lives(drained: None) -> None:
    assert (await ask("/readyz", client=ELSEWHERE))[::2] == (503, b"draining\n")
    assert (await ask("/healthz"))[0] == 200


async def test_metrics_are_for_this_machine() -> None:
    metrics.count("tools/call", "ok", 0.001)
    status, headers, body = await ask("/metrics")
    assert status == 200
    assert headers[b"content-type"].startswith(b"text/plain")
    assert b"mcp_requests_total" in body
    assert b"django_db_new_connections_total" in body


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        (ELSEWHERE, {}),
        (ELSEWHERE, {"authorization": "Bearer wrong"}),
        (LOOPBACK, {"x_forwarded_for": "203.0.113.9"}),
        (LOOPBACK, {"forwarded": "for=203.0.113.9"}),
        (LOOPBACK, {"host": "rebound.example:8000"}),
        (LOOPBACK, {"host": "[::"}),
    ],
)
async def test_metrics_are_hidden_from_others(client: tuple[str, int], headers: dict[str, str]) -> None:
    assert (await ask("/metrics", client=client, **headers))[0] == 404
    assert b"database" not in (await ask("/readyz", client=client, **headers))[2]


async def test_metrics_are_for_the_bearer_of_the_token_too(settings: Any) -> None:
    settings.METRICS_TOKEN = "a long token"
    bearer = {"authorization": "Bearer a long token"}
    assert (await ask("/metrics", client=ELSEWHERE, **bearer))[0] == 200
    assert b"database" in (await ask("/readyz", client=ELSEWHERE, **bearer))[2]


async def test_an_unset_token_opens_nothing() -> None:
    assert (await ask("/metrics", client=ELSEWHERE, authorization="Bearer "))[0] == 404


async def test_probes_are_only_read() -> None:
    assert (await ask("/healthz", method="POST"))[0] == 405


def answering(state: State) -> Any:
    async def answer() -> Finding:
        return Finding(state)

    return answer


async def test_the_worst_finding_counts() -> None:
    asked = Checks([Check("good", 1, answering(State.HEALTHY)), Check("so-so", 1, answering(State.DEGRADED))])
    assert (await asked.report()).state is State.DEGRADED


async def test_a_check_that_hangs_or_breaks_is_a_finding_and_holds_up_no_other() -> None:
    def forever() -> Awaitable[Finding]:
        return asyncio.get_running_loop().create_future()

    async def broken() -> Finding:
        raise RuntimeError("inside")

    asked = Checks(
        [
            Check("hangs", 0.05, forever),
            Check("breaks", 1, broken),
            Check("good", 1, answering(State.HEALTHY)),
        ]
    )
    report = await asked.report()
    assert report.findings["hangs"][0] == Finding(State.UNHEALTHY, "no answer within 0.05 s")
    assert report.findings["breaks"][0] == Finding(State.UNHEALTHY, "RuntimeError")
    assert report.findings["good"][0].state is State.HEALTHY


async def test_many_probes_at_once_ask_once() -> None:
    times: list[int] = []

    async def count() -> Finding:
        times.append(1)
        await asyncio.sleep(0)
        return Finding(State.HEALTHY)

    asked = Checks([Check("counted", 1, count)])
    await asyncio.gather(*(asked.report() for _ in range(20)))
    await asked.report()
    assert len(times) == 1


async def test_a_journal_that_takes_no_records_makes_us_unready(tmp_path: Path) -> None:
    journal = Journal(tmp_path, reserve=2**62)
    shipper = Shipper(journal)
    shipper.start()
    try:
        report = await Checks([Check("journal", 1, checks["journal"].ask)]).report()
    finally:
        await asyncio.to_thread(shipper.stop)
        journal.close()
    assert report.state is State.UNHEALTHY
    assert "no record can be written" in report.findings["journal"][0].detail


async def test_a_gateway_that_has_not_read_changes_for_long_is_not_ready() -> None:
    asked = Check("changes", 1, checks["changes"].ask)
    assert (await Checks([asked]).report()).state is State.HEALTHY
    directory = Directory(Runtimes.over(Upstreams(session)))
    await directory.start()
    try:
        for age, state in ((0, State.HEALTHY), (3, State.DEGRADED), (31, State.UNHEALTHY)):
            directory._trust_since(time.monotonic() - age)
            await asyncio.sleep(0)  # the fuse of the last is burnt down
            finding, _ = (await Checks([asked]).report()).findings["changes"]
            assert finding.state is state
            assert finding.detail.startswith(f"read {age}.")
        await directory.catch_up()
        assert (await Checks([asked]).report()).state is State.HEALTHY
    finally:
        await asyncio.to_thread(directory.close)


# ---- database --------------------------------------------------------------------------------------------


@pytest.fixture
def taken_away(settings: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the system's database was, there is nobody any more. What it was called."""
    there: str = settings.SYSTEM_DATABASE
    lost = settings.DATABASES[settings.SYSTEM_DATABASE] | {"PORT": "1"}
    if connections["default"].vendor == "sqlite":
        lost |= {"NAME": "/nowhere/mooring.sqlite3"}
    monkeypatch.setitem(connections.databases, "lost", lost)
    settings.SYSTEM_DATABASE = "lost"
    return there


async def database_finding() -> Finding:
    report = await Checks([Check("database", 2, checks["database"].ask)]).report()
    return report.findings["database"][0]


@pytest.fixture
async def directory() -> AsyncIterator[Directory]:
    """Of a gateway that has started and sees no more changes."""
    made = Directory(Runtimes.over(Upstreams(session)))
    await made.start()
    yield made
    await asyncio.to_thread(made.close)


async def test_a_gateway_without_its_database_is_ready_for_as_long_as_it_takes_keys(
    directory: Directory, settings: Any, taken_away: str
) -> None:
    found = await database_finding()
    assert (found.state, found.detail[:18]) == (State.DEGRADED, "it does not answer")
    directory._trust_since(time.monotonic() - TRUST_SECONDS)
    await asyncio.sleep(0)  # the fuse is burnt down
    assert await database_finding() == Finding(State.UNHEALTHY, "it does not answer")
    settings.SYSTEM_DATABASE = taken_away
    assert (await database_finding()).state is State.HEALTHY


async def test_a_process_without_a_gateway_needs_its_database(taken_away: str) -> None:
    assert (await database_finding()).state is State.UNHEALTHY


async def test_a_database_that_says_nothing_is_told_in_time_and_makes_nobody_unready(
    directory: Directory, taken_away: str
) -> None:
    if connections["default"].vendor != "postgresql":
        pytest.skip("A file always says something.")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connections.databases["lost"] |= {"HOST": "127.0.0.1", "PORT": str(silent.getsockname()[1])}
        for _ in range(3):
            assert (await database_finding()).state is State.DEGRADED


# ---- runner ----------------------------------------------------------------------------------------------


async def runner_finding() -> Finding:
    report = await Checks([Check("runner", 2, checks["runner"].ask)]).report()
    return report.findings["runner"][0]


async def test_a_runner_is_looked_at_and_what_it_lacks_is_told(
    fake_runner: FakeRunner, settings: Any
) -> None:
    settings.RUNNER_DIR = fake_runner.folder
    assert await runner_finding() == Finding(State.HEALTHY, "servers run in sandboxes")
    for allows_unsafe, beginning in ((False, "no code is run. Memory"), (True, "UNSAFE: code is run")):
        fake_runner.engine.capabilities = Capabilities(
            engine="fake", missing=("Memory cannot be bounded.",), allows_unsafe=allows_unsafe
        )
        found = await runner_finding()
        assert found.state is State.DEGRADED
        assert found.detail.startswith(beginning)
        assert "Memory cannot be bounded." in found.detail


async def test_a_runner_may_be_missing_until_there_is_code_to_run(tmp_path: Path, settings: Any) -> None:
    settings.RUNNER_DIR = tmp_path
    assert (await runner_finding()).state is State.HEALTHY
    runtimes = Runtimes.over(Upstreams(session), runner=tmp_path)
    directory = Directory(runtimes)
    await directory.start()
    try:
        assert (await runner_finding()).state is State.HEALTHY
        assert runtimes.code is not None
        client = runtimes.code.get(RunSpec(tenant="acme", server="tools", digest="0" * 64))
        found = await runner_finding()
        assert (found.state, "cannot be called" in found.detail) == (State.DEGRADED, True)
        del client
    finally:
        await asyncio.to_thread(directory.close)
        await runtimes.close()


# ---- deployment ------------------------------------------------------------------------------------------


def test_the_set_up_of_these_tests_has_all_its_walls() -> None:
    assert deployment.database_roles(None) == []


def test_production_without_an_address_is_refused(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.EMBEDDED = False
    monkeypatch.delenv("MOORING_URL", raising=False)
    assert [finding.id for finding in deployment.hosts(None)] == ["mooring.E001"]
    monkeypatch.setenv("MOORING_URL", "https://mcp.example.com")
    settings.ALLOWED_HOSTS = ["*"]
    assert [finding.id for finding in deployment.hosts(None)] == ["mooring.E002"]
    settings.ALLOWED_HOSTS, settings.SECURE = ["mcp.example.com"], False
    assert [finding.id for finding in deployment.hosts(None)] == ["mooring.W001"]
    settings.SECURE = True
    assert deployment.hosts(None) == []


@pytest.mark.parametrize("alias", list(connections))
def test_a_connection_that_leads_nowhere_any_more_is_noticed(alias: str) -> None:
    if connections[alias].vendor != "postgresql":
        pytest.skip("SQLite has no connections.")
    connections[alias].ensure_connection()
    used = connections[alias].connection.info.get_parameters()
    assert used["keepalives"] == "1"
    assert int(used["keepalives_idle"]) + 3 * int(used["keepalives_interval"]) <= 30
    assert used["tcp_user_timeout"] == "30000"


def test_a_role_that_could_pass_the_second_wall_is_refused() -> None:
    if connections["default"].vendor != "postgresql":
        pytest.skip("SQLite has one wall and no roles.")
    with connections["owner"].cursor() as cursor:
        cursor.execute(deployment.QUESTION)
        owner = deployment.findings(*cursor.fetchone())
    assert "mooring.E005" in {finding.id for finding in owner}
    with connections["system"].cursor() as cursor:
        cursor.execute(deployment.QUESTION)
        system = deployment.findings(*cursor.fetchone())
    assert {finding.id for finding in system} == {"mooring.E006"}
