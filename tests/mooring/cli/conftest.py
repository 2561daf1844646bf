"""An installation of its own, with its web server running, and the `mooring` command as a process."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

MOORING = str(Path(sys.executable).parent / "mooring")
START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Installation:
    environment: dict[str, str]
    origin: str

    def run(
        self, *arguments: str, key: str = "", stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """With `key` the command goes through the REST API, else it works on the data directory."""
        environment = self.environment | ({"MOORING_KEY": key} if key else {})
        return subprocess.run(
            [MOORING, *arguments],
            env=environment,
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def ok(self, *arguments: str, key: str = "", stdin: str | None = None) -> str:
        done = self.run(*arguments, key=key, stdin=stdin)
        assert done.returncode == 0, f"{arguments}: {done.stderr}{done.stdout}"
        return done.stdout

    def json(self, *arguments: str, key: str = "") -> Any:
        return json.loads(self.ok(*arguments, "--json", key=key))

    def refused(self, *arguments: str, key: str = "", code: int = 1) -> str:
        """What it says on standard error: one line."""
        done = self.run(*arguments, key=key)
        assert done.returncode == code, f"{arguments}: {done.returncode} {done.stderr}{done.stdout}"
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stdout == ""
        return done.stderr.strip()

    def tenant(self) -> str:
        """A fresh organisation's name."""
        slug = f"org-{secrets.token_hex(4)}"
        self.ok(
            "tenants", "create", slug, "--owner", f"{slug}@example.com", "--password", "correct horse battery"
        )
        return slug

    def key(self, tenant: str, *more: str) -> str:
        return self.ok("keys", "create", "--tenant", tenant, "--name", "test", *more).strip()


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    port = _free_port()
    origin = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "MOORING_DATA_DIR": str(tmp_path_factory.mktemp("installation")),
        "MOORING_URL": origin,
        "MOORING_HOSTS": f"127.0.0.1:{port}",
        "PORT": str(port),
        "DJANGO_SETTINGS_MODULE": "mooring.settings",
        "COLUMNS": "200",
    }
    made = Installation(environment, origin)
    made.ok("migrate")
    server = subprocess.Popen(
        [MOORING, "serve", "--port", str(port)], env=environment, start_new_session=True
    )
    try:
        _wait_for(port, server)
        yield made
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        finally:
            server.kill()
            server.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Until it answers; each try waits for the process to end, which is also how it would fail."""
    for _ in range(START_SECONDS * 10):
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            connection.close()
            return
        except OSError:
            pass
        try:
            server.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError("The web server did not start.")


@pytest.fixture
def echo_file(tmp_path: Path) -> Path:
    path = tmp_path / "echo.yaml"
    path.write_text(ECHO)
    return path


ECHO = """\
mooring: 1
server: {title: Echo}
tools:
  - name: echo
    description: Says it again.
    input_schema:
      type: object
      properties: {text: {type: string}}
      required: [text]
    static: {kind: echo}
  - name: hello
    input_schema:
      type: object
      properties: {name: {type: string}}
      required: [name]
    static: {kind: text, text: "Hello {name}"}
"""
