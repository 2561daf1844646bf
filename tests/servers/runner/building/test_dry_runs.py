"""A build tries what it has built: what a server says then, and what it can reach."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import pytest

from servers.runner.building.builds import Builder
from servers.runner.building.inside.forwarding import SOCKET
from servers.runner.building.progress import Event, Reporter
from servers.runner.egress import Proxy, allowed
from servers.runner.engine import Limits, RunSpec
from servers.runner.sandbox import launcher, process
from servers.runner.sandbox.cgroups import Limiter
from tests.servers.runner.building.hand_made import USER, build, needing, refused, seen, server, web_index


async def test_a_server_that_opens_a_port_instead_of_answering_is_told_to_use_stdio(builder: Builder) -> None:
    code = b"import socket, time\nsocket.create_server(('127.0.0.1', 8000))\ntime.sleep(600)\n"
    refusal = await refused(builder, code, limits=Limits(start=2))
    assert "use stdio" in refusal.message
    assert refusal.data["stage"] == "try"


async def test_secrets_are_seen_by_the_server_and_kept_out_of_the_log(builder: Builder) -> None:
    code = server(
        "__import__('os').environ['REGION']", "import os, sys; print(os.environ['TOKEN'], file=sys.stderr)"
    )
    events: list[Event] = []
    made = await build(
        builder, code.encode(), events, variables={"REGION": "north"}, secrets={"TOKEN": "hunter2-hunter2"}
    )
    assert seen(made) == "north"
    assert any("***" in event.line for event in events)
    assert "hunter2" not in "".join(event.line for event in events)


async def test_a_flood_in_the_log_does_not_hide_the_reason(builder: Builder) -> None:
    code = b"import sys\nfor n in range(5000): print(n, file=sys.stderr)\nraise RuntimeError('the reason')\n"
    events: list[Event] = []
    assert "the reason" in (await refused(builder, code, events)).message
    assert len(events) < 2_100


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"tools": TOOLS * 2000}', "too much"),
        ('{"tools": [], "nextCursor": "again"}', "no end"),
        ('{"tools": 7}', "does not start"),
    ],
)
async def test_lists_without_measure_are_refused(builder: Builder, answer: str, said: str) -> None:
    code = server().replace('{"tools": TOOLS}', answer)
    assert said in (await refused(builder, code.encode())).message


async def test_a_server_that_is_tried_can_write_nowhere_that_stays(builder: Builder) -> None:
    code = """
import os, site
opened = []
for place in ("/app", "/venv", "/venv/mooring", *site.getsitepackages(), "/usr/bin", "/"):
    try:
        open(os.path.join(place, "written"), "w").close()
        opened.append(place)
    except OSError:
        pass
"""
    assert seen(await build(builder, needing("plain", code=server("opened", code)))) == "[]"


FETCHING = """
import urllib.request
def fetched(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status
    except OSError as error:
        return getattr(error, "code", type(error).__name__)
import os
port = os.environ["INDEX_PORT"]
hosts = ("api.example.com", "other.example.com", "127.0.0.1")
answers = [fetched(f"http://{host}:{port}" + "/simple/plain/") for host in hosts]
"""


async def test_a_running_server_gets_out_to_its_listed_hosts_alone(
    builder: Builder, limiter: Limiter, shelf: Path, workshop: Path
) -> None:
    """The socket of its proxy is mounted into its sandbox; the bootstrap leads the usual variables there."""

    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    made = await build(builder, server("answers", FETCHING).encode(), variables={"INDEX_PORT": "9"})
    assert seen(made) == "['URLError', 'URLError', 'URLError']"
    async with web_index(shelf) as (port, _):
        proxy = Proxy([allowed(f"api.example.com:{port}")], permits=lambda address, port: True, lookup=lookup)
        door = workshop / "way-out"
        async with proxy.listening(door, owner=USER + 300):
            spec = RunSpec(
                tenant="acme",
                server="x",
                digest=made.artifact.digest,
                artifact=str(made.artifact.folder),
                entry=made.artifact.entry,
                runtime=made.artifact.runtime,
                variables={"INDEX_PORT": str(port)},
            )
            plan = launcher.plan_for(spec, spec.runtime)
            plan = dataclasses.replace(plan, trees=[*plan.trees, launcher.Tree(str(door), SOCKET)])
            sandbox = await process.start(plan, name="way-out", limiter=limiter, user=USER + 300)
            try:
                asked = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}\n'
                answer, _ = await asyncio.wait_for(sandbox.process.communicate(asked), 60)
            finally:
                await sandbox.remove()
    assert json.loads(answer)["result"]["tools"][0]["description"] == "[200, 403, 403]"


def test_the_log_is_bounded_and_clean() -> None:
    events: list[Event] = []
    report = Reporter(events.append, secrets=["s3cret"])
    report.line(
        "at https://user:pass@example.com/simple with s3cret \x1b[31mred\x1b[0m a\u202eb" + "x" * 5_000
    )
    assert events[0].line.startswith("at https://***@example.com/simple with *** red ab")
    assert len(events[0].line) < 2_100
    for _ in range(5_000):
        report.line("again")
    assert len(events) == 2_000
    assert events[-1].line == "More lines are not shown."
