"""Processes of the product on the tests' own database, spoken to over sockets."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from threading import Event
from typing import TYPE_CHECKING, Any

from tests.installation import MOORING, Installation
from tests.servers.conftest import GatewayDriver, Reply

if TYPE_CHECKING:
    from tests.conftest import World

# A busy machine may take this long over anything; only what never happens fails.
PATIENCE = 60.0


class ProcessDriver(GatewayDriver):
    """What `GatewayDriver` sends to the application, sent over HTTP to a process."""

    def __init__(self, port: int) -> None:
        self.port = port

    def send(
        self,
        path: str,
        body: bytes = b"",
        *,
        verb: str = "POST",
        headers: Mapping[str, str] | None = None,
        more: list[dict[str, Any]] | None = None,
    ) -> Reply:
        fields = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        fields |= {name.lower(): value for name, value in (headers or {}).items()}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(verb, path, body, {name: value for name, value in fields.items() if value})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        received = {name.lower(): value for name, value in answer.getheaders()}
        if received.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        return Reply(answer.status, received, content)

    def is_up(self) -> bool:
        try:
            return self.send("/healthz", verb="GET").status == 200
        except (OSError, HTTPException):
            return False

    def api(self, verb: str, path: str, key: str, body: bytes = b"") -> Reply:
        """One request to the REST API."""
        headers = {"authorization": f"Bearer {key}", "accept": "application/json"}
        return self.send(f"/api/v1/{path}", body, verb=verb, headers=headers)

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        lines = self.send("/metrics", verb="GET").body.decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.split()[0] == name))

    def raw(self, request: bytes, *, half_close: bool = False) -> bytes:
        """What comes back for these bytes until the server closes; "" when it hung up at once."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            with suppress(ConnectionError):
                connection.sendall(request)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            return received(connection)


def received(connection: socket.socket) -> bytes:
    """Everything until the other end closes or cuts the connection."""
    answer = b""
    with suppress(ConnectionError):
        while part := connection.recv(65_536):
            answer += part
    return answer


def host(
    world: World, manifest: Mapping[str, Any], *, slug: str = "desk", tenant: Any = None, **fields: Any
) -> str:
    """Publish a server of the tenant (acme by default); answers `<tenant>/<server>`."""
    from mooring.scope import tenant_scope  # conftest files are read before Django is set up
    from servers import services

    tenant = tenant or world.acme
    with tenant_scope(tenant.id):
        server = services.create_server(tenant, slug=slug, title="Desk", actor=world.actor, **fields)
        services.replace_draft(server, dict(manifest), actor=world.actor)
        services.publish(server, actor=world.actor)
    return f"{tenant.slug}/{slug}"


def key_for(world: World, *scopes: str) -> str:
    """A key of acme's owner, by default one that may call and nothing else."""
    from mooring.scope import tenant_scope  # as above
    from tenants.services import create_key

    with tenant_scope(world.acme.id):
        given = {"scopes": scopes} if scopes else {}
        return create_key(world.acme, name="test", user=world.alice, actor=world.actor, **given).secret


def echo(*names: str) -> dict[str, Any]:
    """A manifest of echoing tools."""
    tools = [{"name": name, "input_schema": {"type": "object"}, "static": {"kind": "echo"}} for name in names]
    return {"mooring": 1, "server": {"title": "Desk"}, "tools": tools}


def until(is_true: Callable[[], object], what: str, seconds: float = PATIENCE) -> float:
    """Wait for it; answers how long that took, in seconds."""
    began, pause = time.monotonic(), Event()
    while not is_true():
        assert time.monotonic() - began < seconds, f"{what}: not within {seconds:g} s"
        pause.wait(0.02)
    return time.monotonic() - began


def promised(seconds: float) -> float:
    """How long may pass until something that is promised within `seconds` is so. `make soak` has the machine for
    itself and takes it at its word; beside other tests two seconds more are granted."""
    return seconds if os.environ.get("MOORING_SOAK") else seconds + 2.0


@contextmanager
def working(installation: Installation) -> Iterator[None]:
    """With a worker for background jobs."""
    worker = subprocess.Popen([MOORING, "worker", "--concurrency", "1"], env=installation.environment)
    try:
        yield
    finally:
        worker.terminate()
        try:
            worker.wait(30)
        finally:
            worker.kill()
            worker.wait()
