"""Processes of uploaded code, and what they say, from the command line: on the data directory and through the API."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.coding import PROGRAM, offering, tool
from tests.commands import MOORING
from tests.runners import FakeRunner, running_fake


@pytest.fixture(scope="module")
def runner(installation) -> Iterator[FakeRunner]:
    usual = Path(installation.environment["MOORING_DATA_DIR"]) / "runner"
    with tempfile.TemporaryDirectory(prefix="mooring-") as folder, running_fake(Path(folder)) as made:
        made.engine.offer = offering(tool("echo"))
        usual.symlink_to(folder)
        yield made
        usual.unlink()


@pytest.fixture(scope="module")
def tenant(installation, runner, tmp_path_factory) -> str:
    """Its server `code` runs."""
    tenant = installation.tenant()
    program = tmp_path_factory.mktemp("program") / "echo.py"
    program.write_bytes(PROGRAM)
    installation.ok("deploy", str(program), "--tenant", tenant, "--server", "code", "--public")
    installation.ok("call", f"{tenant}/code", "echo")
    return tenant


@pytest.fixture(params=["local", "remote"])
def key(request, installation, tenant) -> str:
    scopes = ("--scope", "servers:read", "--scope", "servers:write", "--scope", "servers:operate")
    return installation.key(tenant, *scopes) if request.param == "remote" else ""


def test_processes_are_listed_and_started_anew(installation, tenant, key):
    at = f"{tenant}/code"
    installation.ok("call", at, "echo")
    (process,) = installation.json("processes", at, key=key)
    assert (process["state"], process["in_flight"], process["crashes"]) == ("ready", 0, 0)
    shown = installation.ok("processes", at, key=key)
    assert process["instance"] in shown
    assert "ready" in shown
    assert installation.json("processes", at, "--restart", process["instance"], key=key) == []
    refused = installation.refused("processes", at, "--restart", process["instance"], key=key)
    assert "no such instance" in refused


def test_logs_are_shown_and_followed(installation, tenant, runner, key):
    at = f"{tenant}/code"
    server = next(iter(runner.engine.servers.values()))
    runner.do(lambda engine: server._log.note("It runs."))
    lines = installation.json("logs", at, "--limit", "1", key=key)
    assert [line["text"] for line in lines] == ["It runs."]
    (line,) = installation.ok("logs", at, "--limit", "1", key=key).splitlines()
    assert line == f"{lines[0]['at'][11:19]} {lines[0]['instance'][:8]} {lines[0]['text']}"
    environment = installation.environment | ({"MOORING_KEY": key} if key else {})
    following = subprocess.Popen(
        [MOORING, "logs", at, "--follow", "--limit", "1", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert json.loads(following.stdout.readline()) == lines[0]
        runner.do(lambda engine: server._log.note("news"))
        assert json.loads(following.stdout.readline())["text"] == "news"
    finally:
        following.terminate()
        following.communicate(timeout=30)


def test_a_server_without_code_has_neither(installation, tenant, key, echo_file):
    installation.ok("deploy", str(echo_file), "--tenant", tenant, "--server", "plain")
    for command in ("processes", "logs"):
        done = installation.run(command, f"{tenant}/plain", key=key)
        assert (done.returncode, done.stdout) == (0, "")
        assert "yet" in done.stderr
