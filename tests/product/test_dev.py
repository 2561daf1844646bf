"""`mooring dev`: one's own program through the whole gateway, new with each save."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.commands import MOORING
from tests.product.processes import PATIENCE, ProcessDriver, until
from tests.services import free_port

# From a save until what was saved answers: a second and a half on a machine with nothing else to do.
SAVED_SECONDS = 1.5 if os.environ.get("MOORING_SOAK") else 20.0
PROGRAM = '''
from contextlib import asynccontextmanager

from mcp.server.mcpserver import MCPServer


@asynccontextmanager
async def prepared(server):
    print("made ready", flush=True)
    yield {}


mcp = MCPServer("calculator", lifespan=prepared)


@mcp.tool()
def combined(a: int, b: int) -> int:
    """Puts two numbers together."""
    return a + b
'''
NOWHERE = "nothing://127.0.0.1:1"


class Developing:
    """A running `mooring dev` and what it prints."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.driver, self._lines = process, ProcessDriver(port), list[str]()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self._lines.extend(lines)

    def join(self) -> None:
        """Until all that it has printed is here; to be called once it has ended."""
        self._reading.join(PATIENCE)

    @property
    def printed(self) -> str:
        return "".join(list(self._lines))

    def combined(self, server: str) -> str:
        """3 and 2, as the endpoint puts them together now; "" while there is none."""
        reply = self.driver.modern(server, "tools/call", {"name": "combined", "arguments": {"a": 3, "b": 2}})
        if reply.status != 200:
            return ""
        return str(reply.json["result"]["content"][0]["text"])


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """The path of a socket has a limit, which folders of tests come near to."""
    with TemporaryDirectory(prefix="mooring-dev-") as folder:
        yield Path(folder)


@contextmanager
def developing(path: Path, folder: Path, *more: str) -> Iterator[Developing]:
    port = free_port()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MOORING_", "PORT"))
    }
    process = subprocess.Popen(
        [MOORING, "dev", str(path), "--port", str(port), *more],
        # It brings its own database, whatever that of an installation is.
        env=environment | {"MOORING_DATA_DIR": str(folder), "DATABASE_URL": NOWHERE, "REDIS_URL": NOWHERE},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    dev = Developing(process, port)
    try:
        yield dev
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()
            dev.join()


def test_a_program_is_served_through_the_gateway_and_again_with_each_save(
    tmp_path: Path, short_folder: Path
) -> None:
    program = tmp_path / "calculator.py"
    program.write_text(PROGRAM)
    with developing(program, short_folder, "--python", sys.executable) as dev:
        until(lambda: "/t/dev/calculator/mcp" in dev.printed, "the endpoint's address", 2 * PATIENCE)
        assert dev.combined("dev/calculator") == "5"
        until(lambda: "tools/call combined  ok" in dev.printed, "the call in the trace")
        until(lambda: "│ made ready" in dev.printed, "what the program has printed")

        # As many editors save: another file in the place of the old one.
        saved = tmp_path / "saved"
        saved.write_text(PROGRAM.replace("a + b", "a * b"))
        began = time.monotonic()
        saved.replace(program)
        until(lambda: dev.combined("dev/calculator") == "6", "the answer of what was saved")
        assert time.monotonic() - began < SAVED_SECONDS

        program.write_text("import nowhere_to_be_found\n" + PROGRAM)
        until(lambda: "nowhere_to_be_found" in dev.printed, "what is wrong with it")
        assert dev.combined("dev/calculator") == "6"

        program.write_text(PROGRAM.replace("combined", "joined"))
        until(lambda: dev.combined("dev/calculator") == "", "the end of a tool that was renamed")
    assert dev.process.returncode == 0
    assert "Traceback" not in dev.printed.rpartition("✓")[2]


def test_what_the_program_is_given_reaches_it_and_a_secret_is_not_printed(
    tmp_path: Path, short_folder: Path
) -> None:
    program = tmp_path / "server.py"
    program.write_text(
        PROGRAM.replace("return a + b", 'import os; print(os.environ); return len(os.environ["TOKEN"])')
    )
    with developing(
        tmp_path,
        short_folder,
        "--python",
        sys.executable,
        "--secret",
        "TOKEN=hush-hush-hush",
        "--server",
        "own",
    ) as dev:
        until(lambda: "/t/dev/own/mcp" in dev.printed, "the endpoint's address", 2 * PATIENCE)
        assert dev.combined("dev/own") == "14"
        until(lambda: "environ({" in dev.printed, "what the program has printed")
        assert "hush-hush-hush" not in dev.printed


def test_a_path_that_is_no_program_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [MOORING, "dev", str(tmp_path / "none.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "neither a Python file nor a folder" in done.stderr
