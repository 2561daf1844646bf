"""The running product's background work: `mooring up` with its worker killed in the middle of a job."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from mooring.jobs.models import Job
from mooring.scope import system_scope, tenant_scope
from servers import services
from servers.models import Import
from tests.conftest import World
from tests.product.processes import ProcessDriver, until
from tests.services import free_port

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
# Enough for a worker to be busy for seconds, and well under what an import may hold.
OPERATIONS = 800


@pytest.fixture
def up(database: None) -> Iterator[subprocess.Popen[bytes]]:
    """`mooring up` on the tests' own database."""
    port = free_port()
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "mooring.settings",
        "MOORING_URL": f"http://127.0.0.1:{port}",
        "MOORING_HOSTS": f"127.0.0.1:{port}",
        "MOORING_DRAIN": "0",
        "MOORING_RUNNER_STORE": f"{os.environ['MOORING_DATA_DIR']}/store",
        "PORT": str(port),
    }
    command = [sys.executable, "-m", "mooring.cli.running", "up"]
    running = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        driver = ProcessDriver(port)
        until(lambda: driver.is_up() or running.poll() is not None, "the first answer", 90)
        assert running.poll() is None
        yield running
    finally:
        running.terminate()
        try:
            running.wait(30)
        finally:
            running.kill()
            running.wait()


def a_large_document() -> str:
    """YAML, which only workers read."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {f"field{n}": {"type": "string", "description": "word " * 8} for n in range(6)},
    }
    paths = {
        f"/things{n}/{{id}}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "post": {
                "operationId": f"make{n}",
                "requestBody": {"content": {"application/json": {"schema": schema}}},
                "responses": {"200": {"description": "Done"}},
            },
        }
        for n in range(OPERATIONS)
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Things", "version": "1"},
        "servers": [{"url": "https://things.example"}],
        "paths": paths,
    }
    return "# JSON is YAML\n" + json.dumps(document, indent=1)


def worker_of(up: subprocess.Popen[bytes]) -> int:
    """The process id of the worker's parent; its pool is of the same group."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(up.pid) and b"\0worker\0" in (path / "cmdline").read_bytes():
                return int(path.name)
    return 0


@needs_proc
def test_the_import_of_a_killed_worker_is_completed_once_by_its_successor(
    world: World, up: subprocess.Popen[bytes]
) -> None:
    with tenant_scope(world.acme.id):
        started = services.start_import(
            world.acme, actor=world.actor, name="things", document=a_large_document(), url=None
        )
        assert started.job is not None
        job_id = started.job.id

    def job() -> Job:
        with tenant_scope(world.acme.id):
            return Job.objects.get(id=job_id)

    until(lambda: job().state != Job.State.WAITING, "a worker to take the job")
    killed = worker_of(up)
    os.killpg(killed, signal.SIGKILL)
    left = job()
    assert (left.state, left.attempts) == (Job.State.RUNNING, 1), "it was done before it could be interrupted"
    until(lambda: worker_of(up) not in {0, killed}, "another worker")
    with system_scope():  # as if half a minute had passed
        Job.objects.filter(id=job_id).update(lease_until=timezone.now() - timedelta(seconds=1))
    until(lambda: job().is_finished, "the job to be finished")
    done = job()
    assert (done.state, done.attempts, done.error) == (Job.State.DONE, 2, "")
    with tenant_scope(world.acme.id):
        read = Import.objects.get(id=started.id)
        assert len(read.result["operations"]) == OPERATIONS
        assert (read.document, Job.objects.count()) == ("", 1)
