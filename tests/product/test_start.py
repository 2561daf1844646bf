"""Starting once installed: no installer is called, and what the first answer does not need is not imported."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import World
from tests.product.processes import ProcessDriver, echo, host, until
from tests.services import free_port

ROOT = Path(__file__).resolve().parents[2]
BOOTSTRAP = ROOT / "deploy" / "bootstrap.py"
# A Python that knows its version, as the environment's does, and with which every installation fails.
PYTHON = f"""\
#!/bin/sh
case "$1" in
-c) echo "{sys.version_info[:2]}" ;;
*) echo "$@" >> "$0.calls"; exit 7 ;;
esac
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A folder that looks like an installed environment and cannot install."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def bootstrap() -> ModuleType:
    found = importlib.util.spec_from_file_location("bootstrap", BOOTSTRAP)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def installer_calls(environment: Path, kind: str) -> list[str]:
    """Run the bootstrap as `make run` (run) or `make test` (dev) does; what it asked the installer for."""
    done = subprocess.run(
        [sys.executable, str(BOOTSTRAP), kind],
        env=os.environ | {"MOORING_VENV": str(environment)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    record = environment / "bin" / "python.calls"
    calls = record.read_text().splitlines() if record.exists() else []
    assert (done.returncode == 0) is (not calls), done.stderr
    return calls


@pytest.mark.parametrize(("installed", "asked"), [("run", "run"), ("dev", "dev"), ("dev", "run")])
def test_a_second_start_calls_no_installer(environment: Path, installed: str, asked: str) -> None:
    lock = ROOT / "deploy" / f"{installed}.txt"
    (environment / f"{installed}.stamp").write_text(bootstrap().stamp_of(lock))
    assert installer_calls(environment, asked) == []


@pytest.mark.parametrize("stamp", ["", "of another lock"])
def test_without_the_stamp_of_this_lock_the_installer_is_called(environment: Path, stamp: str) -> None:
    (environment / "run.stamp").write_text(stamp)
    (call,) = installer_calls(environment, "run")
    assert call.startswith("-m pip ")
    assert "--require-hashes" in call


# `mooring serve`, which at its end writes what it has imported into the file it was told.
SERVE = """
import atexit, pathlib, runpy, sys
note = pathlib.Path(sys.argv.pop())
atexit.register(lambda: note.write_text(" ".join(sys.modules)))
runpy.run_module("mooring.cli.running", run_name="__main__")
"""
LATE = ("mcp", "celery", "kombu", "mooring.admin", "unfold.admin", "twisted")
if os.environ["MOORING_TEST_SETUP"] == "embedded":
    LATE += ("psycopg",)


def test_the_first_answers_come_before_the_sdk_celery_and_the_admin_are_imported(
    tmp_path: Path, world: World, key_of: Callable[..., str]
) -> None:
    at, key, port, note = host(world, echo("old")), key_of(world.acme), free_port(), tmp_path / "imported"
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "mooring.settings",
        "MOORING_URL": f"http://127.0.0.1:{port}",
        "MOORING_HOSTS": f"127.0.0.1:{port}",
        "MOORING_DRAIN": "0",
        "PORT": str(port),
    }
    command = [sys.executable, "-c", SERVE, "serve", str(note)]
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        driver = ProcessDriver(port)
        until(lambda: driver.is_up() or server.poll() is not None, "the first answer")
        assert driver.modern(at, "tools/call", {"name": "old"}, key=key).status == 200
        server.terminate()
        server.wait(30)
    finally:
        server.kill()
        server.wait()
    imported = set(note.read_text().split())
    assert {"mooring.settings", "servers.gateway.app", "uvicorn.server"} <= imported
    assert {name for name in imported for late in LATE if f"{name}.".startswith(f"{late}.")} == set()
