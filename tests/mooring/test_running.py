"""`mooring up`, `serve`, `worker` and `beat` as real processes on free ports."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import django
import pytest

from mooring.cli import stepping_down
from servers.runner.client import SOCKET, RunnerClient
from tests.runners import spec_of
from tests.sandboxes import make_artifact, readable_folder, require_sandboxes
from tests.servers.runner.test_supervisor import alive, descendants, groups_of
from tests.services import free_port

START_SECONDS = 90.0
Starter = Callable[..., "Running"]


class Running:
    """One process of the product and what it writes."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    def output(self) -> str:
        return self.log.read_text()

    def get(self, path: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response

    def answers(self, path: str = "/healthz") -> int:
        """The status, 0 when nobody listens."""
        try:
            return self.get(path).status
        except (OSError, http.client.HTTPException):
            return 0

    def wait_for_answer(self) -> None:
        until(lambda: self.answers() == 200 or self.process.poll() is not None, self)
        assert self.process.poll() is None, self.output()


def until(is_true: Callable[[], object], running: Running, seconds: float = START_SECONDS) -> None:
    pause, deadline = Event(), time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, running.output()
        pause.wait(0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """`start("up")` starts `mooring up` on a data directory and a port of the test's own."""
    started: list[Running] = []

    def run(
        *arguments: str,
        port: int = 0,
        python: str = sys.executable,
        user: int | None = None,
        **variables: str,
    ) -> Running:
        port = port or free_port()
        log = tmp_path / f"log-{len(started)}"
        environment = os.environ | {
            "MOORING_DATA_DIR": str(tmp_path / "data"),
            "MOORING_URL": f"http://localhost:{port}",
            "MOORING_HOSTS": f"localhost:{port},127.0.0.1:{port}",
            "MOORING_DRAIN": "0",
            # The usual place is one that outlives a test.
            "MOORING_RUNNER_STORE": str(tmp_path / "store"),
            "PORT": str(port),
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [python, "-m", "mooring.cli.running", *arguments],
                env=environment | variables,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        started.append(Running(process, port, log))
        return started[-1]

    yield run
    for each in started:
        each.process.terminate()
    for each in started:
        try:
            each.process.wait(20)
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()


def processes_below(folder: Path) -> set[int]:
    """Ids of living processes of the product whose data is in this folder."""
    mark = f"MOORING_DATA_DIR={folder / 'data'}".encode()
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (path / "environ").read_bytes().split(b"\0") and (path / "cmdline").read_bytes():
                found.add(int(path.name))
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")


@needs_proc
def test_up_brings_everything_up_mends_it_and_ctrl_c_takes_it_down(start: Starter, tmp_path: Path) -> None:
    up = start("up")
    up.wait_for_answer()
    # up, web, worker with two of its own, beat
    until(lambda: len(processes_below(tmp_path)) >= 6, up)
    assert f"http://localhost:{up.port}" in up.output()
    assert up.get("/readyz").status == 200

    web = next(each for each in children_of(up.process.pid) if b"serve" in command_of(each).split(b"\0"))
    os.kill(web, signal.SIGKILL)
    until(lambda: "The web server was killed by SIGKILL. It starts again" in up.output(), up)
    until(lambda: up.answers() == 200, up)

    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(20) == 0
    assert processes_below(tmp_path) == set()
    assert "Mooring has stopped." in up.output()


@needs_proc
def test_killing_up_leaves_no_process(start: Starter, tmp_path: Path) -> None:
    up = start("up")
    up.wait_for_answer()
    until(lambda: len(processes_below(tmp_path)) >= 6, up)
    up.process.kill()
    up.process.wait()
    until(lambda: not processes_below(tmp_path), up, 20)


def test_killing_up_leaves_nothing_of_what_its_runner_runs(start: Starter) -> None:
    require_sandboxes()
    mounts = Path("/proc/self/mountinfo").read_text()
    with readable_folder() as folder:
        up = start(
            "up", MOORING_RUNNER_DIR=str(folder / "runner"), MOORING_RUNNER_STORE=str(folder / "store")
        )
        up.wait_for_answer()
        until(lambda: "The runner is ready: servers run in sandboxes." in up.output(), up)
        asyncio.run(one_server_in(folder))
        family = descendants(up.process.pid)
        assert len(groups_of(folder / "runner")) >= 1
        up.process.kill()
        up.process.wait()
        until(lambda: not alive(family) and not groups_of(folder / "runner"), up, 20)
        assert not (folder / "runner" / SOCKET).exists()
    assert Path("/proc/self/mountinfo").read_text() == mounts


async def one_server_in(folder: Path) -> None:
    client = RunnerClient(folder / "runner")
    await client.ensure(spec_of(make_artifact(folder / "artifact", "server.py")))
    await client.close()


def children_of(process: int) -> list[int]:
    return [number for number in descendants(process) if process_above(number) == process]


def process_above(process: int) -> int:
    """0 when it is gone."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{process}/status").read_text()
        return int(status.split("PPid:\t")[1].split("\n")[0])
    return 0


def command_of(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_second_web_process_on_the_same_data_is_refused(start: Starter) -> None:
    if os.environ.get("REDIS_URL"):
        pytest.skip("With Redis there may be many.")
    first = start("serve", "--migrate-first")
    first.wait_for_answer()
    for command in ("serve", "up"):
        second = start(command)
        assert second.process.wait(START_SECONDS) == 1
        assert "Another Mooring is already running on" in second.output()
        assert "Traceback" not in second.output()


def test_a_taken_port_is_said_in_a_sentence(start: Starter) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        up = start("up", port=other.getsockname()[1])
        assert up.process.wait(START_SECONDS) == 1
    assert "is taken by another program. Choose another" in up.output()
    assert "Traceback" not in up.output()


def test_migrate_is_enough_for_serve_and_the_data_plane_serves_no_pages(start: Starter) -> None:
    migration = start("migrate")
    assert migration.process.wait(START_SECONDS) == 0, migration.output()
    plane = start("serve", "--data-plane")
    plane.wait_for_answer()
    assert plane.get("/accounts/login/").status == 404
    assert plane.get("/metrics").status == 200


def test_a_drain_is_announced_and_still_answers_until_it_is_over(start: Starter) -> None:
    server = start("serve", "--migrate-first", MOORING_DRAIN="2")
    server.wait_for_answer()
    assert server.get("/healthz").getheader("connection") != "close"
    waiting = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    waiting.request("GET", "/healthz")
    waiting.getresponse().read()

    server.process.terminate()
    until(lambda: server.answers("/readyz") == 503, server, 2)
    assert server.get("/healthz").status == 200
    assert server.get("/healthz").getheader("connection") == "close"
    waiting.request("GET", "/healthz")
    reused = waiting.getresponse()
    assert (reused.status, reused.getheader("connection")) == (200, "close")
    waiting.close()
    assert server.process.wait(10) == 0, server.output()
    assert server.answers() == 0


def test_heads_that_are_too_large_or_never_end_are_refused(start: Starter) -> None:
    server = start("serve", "--migrate-first")
    server.wait_for_answer()
    head = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"
    assert status_of(server, head + b"x: " + b"a" * 60_000 + b"\r\n\r\n") == 200
    refused = {0, 400, 431}
    assert status_of(server, head + b"x: " + b"a" * 70_000) in refused
    assert status_of(server, head + b"x: " + b"a" * 300_000 + b"\r\n\r\n") in refused
    assert status_of(server, head + b"".join(b"x-%d: y\r\n" % each for each in range(9_000))) in refused
    assert status_of(server, b"\x16\x03\x01 this is not HTTP\r\n\r\n") == 400
    assert server.answers() == 200


def status_of(server: Running, request: bytes) -> int:
    """0 when the connection was cut before the answer could be read, as happens to who goes on sending."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while b"\r\n" not in answer and (received := connection.recv(4_096)):
                answer += received
        return int(answer.split(b" ", 2)[1]) if answer else 0


def test_production_refuses_to_start_without_an_address(start: Starter) -> None:
    if os.environ["MOORING_TEST_SETUP"] != "production":
        pytest.skip("The embedded set-up needs none.")
    server = start("serve", "--migrate-first", MOORING_URL="")
    assert server.process.wait(START_SECONDS) == 1
    assert "MOORING_URL is not set." in server.output()


# ---- who runs as whom ------------------------------------------------------------------------------------


@pytest.fixture
def open_python(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A Python that every user of the machine may run, and the variables with which it finds all of Mooring.

    To be asked for before what is started with it, which then ends first.
    """
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("Only root can become somebody else.")
    system = "/usr/bin/python3"
    packages = Path(django.__file__).parent.parent
    root = Path(__file__).resolve().parents[2]
    version = ".".join(map(str, sys.version_info[:2]))
    asked = subprocess.run([system, "--version"], capture_output=True, text=True, check=False)
    if f" {version}." not in asked.stdout or stepping_down.closed(packages / "django" / "__init__.py"):
        pytest.skip(f"{system} is no Python {version}, or others may not read {packages}.")
    with readable_folder() as folder:
        # A package of the lock that releases before 3.11.3 want and later ones do not.
        (folder / "async_timeout.py").write_text("from asyncio import timeout\n")
        path = ":".join(map(str, (root, root / "platform", packages, folder)))
        data = str(folder / "data")
        store = {"MOORING_RUNNER_STORE": f"{data}/runner/store"}
        yield system, {"PYTHONPATH": path, "MOORING_DATA_DIR": data} | store


def users_of(process: int) -> dict[str, int]:
    """Command of `mooring` → user, for it and what it has started."""
    found = {}
    for number in (process, *descendants(process)):
        words = command_of(number).split(b"\0")
        if b"mooring.cli.running" in words:
            user = Path(f"/proc/{number}/status").read_text().split("Uid:\t")[1].split("\t")[0]
            found[words[words.index(b"mooring.cli.running") + 1].decode()] = int(user)
    return found


def check_of(running: Running, name: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    connection.request("GET", "/readyz")
    report = json.loads(connection.getresponse().read())
    connection.close()
    return report["checks"][name]


def test_of_what_root_starts_only_the_runner_stays_root(
    open_python: tuple[str, dict[str, str]], start: Starter
) -> None:
    require_sandboxes()
    python, variables = open_python
    mine, theirs = 0, stepping_down.USER
    expected = {"up": mine, "serve": theirs, "worker": theirs, "beat": theirs, "runner": mine}

    def up_and_down() -> None:
        up = start("up", python=python, **variables)
        up.wait_for_answer()
        until(lambda: "The runner is ready: servers run in sandboxes." in up.output(), up)
        until(lambda: users_of(up.process.pid) == expected, up)
        assert check_of(up, "runner")["detail"] == "servers run in sandboxes"  # asked by the web server
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(20) == 0, up.output()
        for word in ("Traceback", "Warning"):
            assert word not in up.output()

    up_and_down()
    up_and_down()  # everything is there already
    data = Path(variables["MOORING_DATA_DIR"])
    owners = {path.name: path.stat().st_uid for path in data.iterdir()}
    assert owners.pop("runner") == data.stat().st_uid == mine
    assert set(owners.values()) == {theirs}


def test_without_root_code_is_not_run_and_that_is_said(
    open_python: tuple[str, dict[str, str]], start: Starter
) -> None:
    python, variables = open_python
    folder = Path(variables["MOORING_DATA_DIR"])
    folder.mkdir()
    os.chown(folder, stepping_down.USER, stepping_down.USER)
    up = start("up", python=python, user=stepping_down.USER, **variables)
    up.wait_for_answer()
    until(lambda: "Uploaded code cannot be run: its sandboxes need root." in up.output(), up)
    assert check_of(up, "runner")["status"] == "healthy"
    assert "runner" not in users_of(up.process.pid)


def test_without_root_a_developer_may_have_code_run_all_the_same(
    open_python: tuple[str, dict[str, str]], start: Starter
) -> None:
    require_sandboxes()
    python, variables = open_python
    folder = Path(variables["MOORING_DATA_DIR"])
    folder.mkdir()
    os.chown(folder, stepping_down.USER, stepping_down.USER)
    up = start("up", python=python, user=stepping_down.USER, MOORING_RUNNER_UNSAFE="1", **variables)
    up.wait_for_answer()
    until(lambda: "The runner is ready, UNSAFE" in up.output(), up)
    found = check_of(up, "runner")
    assert (found["status"], found["detail"].startswith("UNSAFE: ")) == ("degraded", True)


def test_where_others_cannot_enter_all_stays_root_and_that_is_said(start: Starter, tmp_path: Path) -> None:
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("Only root can become somebody else.")
    tmp_path.chmod(0o700)
    up = start("up")
    up.wait_for_answer()
    assert "The web server and the workers run as root, since no other user may" in up.output()
    assert users_of(up.process.pid)["serve"] == 0
