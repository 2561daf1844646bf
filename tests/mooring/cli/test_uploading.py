"""`mooring deploy` of Python code, on the data directory and through the API, and what it packs of a folder."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mooring.cli import packing
from mooring.errors import InvalidInput
from servers.runner.engine import BuildResult
from servers.runner.errors import Unbuildable
from servers.runner.fake import OFFER
from tests.commands import MOORING
from tests.installation import Installation
from tests.runners import FakeRunner, fake_runner

__all__ = ["fake_runner"]
PROGRAM = "from mcp.server.fastmcp import FastMCP\nmcp = FastMCP('weather')\n"


def offering(*names: str) -> BuildResult:
    tools = tuple({"name": name, "inputSchema": {"type": "object"}} for name in names)
    return msgspec.structs.replace(OFFER, tools=tools)


@pytest.fixture(params=["local", "remote"])
def place(
    request: pytest.FixtureRequest, installation: Installation, fake_runner: FakeRunner
) -> Iterator[tuple[Installation, str, str]]:
    """The command, an organisation and a key of it, or none; behind the API a worker does the builds."""
    folder = str(fake_runner.folder)
    command = installation.but(MOORING_RUNNER_DIR=folder)
    tenant = installation.tenant()
    if request.param == "local":
        yield command, tenant, ""
        return
    # The web server of the installation finds the runner where it looks for one.
    usual = Path(installation.environment["MOORING_DATA_DIR"]) / "runner"
    usual.symlink_to(folder)
    worker = subprocess.Popen([MOORING, "worker", "--concurrency", "1"], env=installation.environment)
    try:
        yield command, tenant, installation.key(tenant)
    finally:
        usual.unlink()
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(30)
        finally:
            worker.kill()
            worker.wait()


def test_a_file_is_deployed_with_its_log_on_the_terminal(
    place: tuple[Installation, str, str], fake_runner: FakeRunner, tmp_path: Path
) -> None:
    command, tenant, key = place
    fake_runner.engine.offer = offering("forecast", "alerts")
    program = tmp_path / "weather.py"
    program.write_text(PROGRAM)
    deploy = ["deploy", str(program), "--tenant", tenant, "--server", "weather", "--public"]
    more = ["--env", "REGION=eu", "--secret", "TOKEN=hush-hush", "--allow-host", "api.example.com"]
    done = command.run(*deploy, *more, key=key)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Published 1.0.0.",
        "Tools: 2",
        f"{command.origin}/t/{tenant}/weather/mcp",
    ]
    assert "install weather.py" in done.stderr
    assert "hush-hush" not in done.stdout + done.stderr
    ((spec, upload),) = fake_runner.engine.builds
    assert upload == PROGRAM.encode()
    assert (spec.variables, spec.secrets, spec.hosts) == (
        {"REGION": "eu"},
        {"TOKEN": "hush-hush"},
        ("api.example.com",),
    )
    # What was said of it before need not be said again.
    assert command.json(*deploy, key=key)["is_new_version"] is False
    assert fake_runner.engine.builds[1][0].secrets == {"TOKEN": "hush-hush"}
    assert "code " in command.ok("upstreams", f"{tenant}/weather", key=key)


def test_a_build_that_fails_says_what_to_add(
    place: tuple[Installation, str, str], fake_runner: FakeRunner, tmp_path: Path
) -> None:
    command, tenant, key = place
    block = '# /// script\n# dependencies = [\n#   "httpx",\n# ]\n# ///\n'
    fake_runner.engine.offer = Unbuildable(
        f"Add this at the top of weather.py:\n{block}", block=block, line=1
    )
    program = tmp_path / "weather.py"
    program.write_text(PROGRAM)
    failed = command.run("deploy", str(program), "--tenant", tenant, "--server", "weather", key=key)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert block in failed.stderr
    assert failed.stderr.splitlines()[-1] == "mooring: Add this at the top of weather.py."


def test_without_a_runner_it_is_said_how_to_start_one(installation: Installation, tmp_path: Path) -> None:
    tenant = installation.tenant()
    program = tmp_path / "weather.py"
    program.write_text(PROGRAM)
    for key in ("", installation.key(tenant)):
        said = installation.refused(
            "deploy", str(program), "--tenant", tenant, "--server", "weather", key=key
        )
        assert "`mooring up`" in said


def test_command_lines_about_code_that_make_no_sense_are_refused(
    installation: Installation, tmp_path: Path
) -> None:
    program = tmp_path / "weather.py"
    program.write_text(PROGRAM)
    for arguments in (
        [str(program), "--base-url", "https://x.example"],
        [str(program), "--env", "secret-without-a-name"],
        ["https://x.example/mcp", "--env", "A=b"],
        ["x.yaml", "--allow-host", "a.example"],
    ):
        said = installation.refused("deploy", *arguments, "--server", "b", code=2)
        assert "secret-without" not in said


# ---- packing


def files_of(upload: packing.Upload) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(upload.data)) as packed:
        return {name: packed.read(name).decode() for name in packed.namelist()}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_folder_is_packed_alike_whenever_and_wherever(tmp_path: Path) -> None:
    files = {"b.py": "b", "a/z.py": "z", "a/b/c.txt": "c", "pyproject.toml": "[project]"}
    one = packing.read(str(write(tmp_path / "one" / "code", files)))
    other = write(tmp_path / "other" / "code", dict(reversed(files.items())))
    os.utime(other / "b.py", (1, 1))
    (other / "b.py").chmod(0o755)
    assert packing.read(str(other)) == one
    assert one.name == "code.zip"
    assert files_of(one) == files


def test_what_is_no_part_of_the_program_stays_here(tmp_path: Path) -> None:
    ours = {"server.py": "s", "lib/x.py": "x", ".gitignore": "i"}
    theirs = [
        ".git/config",
        ".venv/x.py",
        "env/pyvenv.cfg",
        "env/lib/x.py",
        "__pycache__/s.pyc",
        "lib/__pycache__/x.pyc",
    ]
    write(tmp_path, ours | dict.fromkeys([*theirs, "node_modules/x.js", ".env", "x.pyc"], "no"))
    assert files_of(packing.read(str(tmp_path))) == ours


@pytest.mark.parametrize(
    ("bound", "files", "said"),
    [
        ("MOST_FILES", {"a": "1", "b": "2", "c": "3"}, "more than 2 files"),
        ("LARGEST_FILE", {"a": "123"}, "a has more than"),
        ("MOST_BYTES", {"a": "1", "b": "23"}, "more than"),
        ("LARGEST_UPLOAD", {"a": "1"}, "packed"),
        ("MOST_FILES", {}, "no file"),
    ],
)
def test_what_would_be_refused_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, files: dict[str, str], said: str
) -> None:
    write(tmp_path, files)
    monkeypatch.setattr(packing, bound, 2)
    with pytest.raises(InvalidInput, match=said):
        packing.read(str(tmp_path))


def test_a_link_is_refused_since_it_may_lead_anywhere(tmp_path: Path) -> None:
    folder = write(tmp_path / "code", {"server.py": "s"})
    (folder / "data").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="data is a link"):
        packing.read(str(folder))


def test_what_is_code_is_told_by_its_name_or_by_being_a_folder(tmp_path: Path) -> None:
    yes: list[Any] = ["x.py", "X.ZIP", "x.tar.gz", "x.tgz", str(tmp_path)]
    no = ["x.yaml", "x.json", "-", "https://example.com/x.py", "x.gz"]
    assert all(packing.is_code(path) for path in yes)
    assert not any(packing.is_code(path) for path in no)
