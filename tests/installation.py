"""Real processes: an installation with its own port, and the `mooring` command."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from mooring.cli.supervision import LIFELINE
from tests.commands import MOORING, run
from tests.environment import fill
from tests.services import free_port

START_SECONDS = 60
# Servers end when the other end is closed: with this process, however it ends.
_LINE, _HELD = os.pipe()


@dataclass(slots=True)
class Installation:
    environment: dict[str, str]
    port: int
    origin: str
    server: subprocess.Popen[bytes] | None = field(default=None)

    def run(self, *arguments: str, key: str = "", stdin: str = "") -> subprocess.CompletedProcess[str]:
        """With `key` the command goes through the REST API, else it works on the data directory."""
        environment = self.environment | ({"MOORING_KEY": key} if key else {})
        return run(*arguments, environment=environment, stdin=stdin)

    def ok(self, *arguments: str, key: str = "", stdin: str = "") -> str:
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

    def but(self, **environment: str) -> Installation:
        """The same for the command alone, with some variables set otherwise; an empty one is unset."""
        found = {name: value for name, value in (self.environment | environment).items() if value}
        return replace(self, environment=found, server=None)

    def tenant(self) -> str:
        """A fresh organisation's name."""
        slug = f"org-{secrets.token_hex(4)}"
        self.ok(
            "tenants", "create", slug, "--owner", f"{slug}@example.com", "--password", "correct horse battery"
        )
        return slug

    def key(self, tenant: str, *more: str) -> str:
        return self.ok("keys", "create", "--tenant", tenant, "--name", "test", *more).strip()

    def start(self) -> None:
        """Start the web server and wait until it answers."""
        self.server = subprocess.Popen(
            [MOORING, "serve"],
            env=self.environment | {LIFELINE: str(_LINE)},
            pass_fds=[_LINE],
            start_new_session=True,
        )
        self._wait()

    def _wait(self) -> None:
        assert self.server is not None
        for _ in range(START_SECONDS * 10):
            try:
                connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/healthz")
                is_up = connection.getresponse().status == 200
                connection.close()
                if is_up:
                    return
            except (OSError, HTTPException):
                pass
            # Waiting for its end is also how a failed start is noticed.
            try:
                self.server.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break
        raise AssertionError("The web server did not start.")

    def kill(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.server.wait()

    def stop(self) -> None:
        if self.server is None or self.server.poll() is not None:
            return
        self.server.send_signal(signal.SIGTERM)
        try:
            self.server.wait(30)
        finally:
            self.server.kill()
            self.server.wait()


@contextmanager
def installed(folder: Path, **more: str) -> Iterator[Installation]:
    """An installation whose web server runs. In production it shares the tests' database and Redis."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    environment = (
        os.environ
        | {
            "MOORING_DATA_DIR": str(folder),
            "MOORING_URL": origin,
            "MOORING_HOSTS": f"127.0.0.1:{port}",
            "MOORING_DRAIN": "0",
            "PORT": str(port),
            "DJANGO_SETTINGS_MODULE": "mooring.settings",
            "COLUMNS": "200",
        }
        | more
    )
    made = Installation(environment, port, origin)
    fill(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
