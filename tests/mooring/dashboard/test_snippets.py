"""What the connect page shows is true: its programs are run as they stand there, with a key in its place."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.dashboard.clients import KEY, Client, clients
from tests.installation import installed
from tests.node.modules import NODE, installed_modules

MANIFEST = """\
mooring: 1
server: {title: Echo}
tools:
  - {name: say_it_again, input_schema: {type: object}, static: {kind: echo}}
"""
Endpoint = tuple[str, str]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """The URL of a private server on a running installation, and a key for it."""
    path = tmp_path_factory.mktemp("manifest") / "echo.yaml"
    path.write_text(MANIFEST)
    with installed(tmp_path_factory.mktemp("installation")) as made:
        tenant = made.tenant()
        printed = made.ok("deploy", str(path), "--tenant", tenant, "--server", "echo")
        yield printed.splitlines()[-1], made.key(tenant)


def shown(endpoint: Endpoint, name: str) -> str:
    url, key = endpoint
    found: Client = next(each for each in clients("echo", url, needs_key=True) if each.id == name)
    assert KEY in found.code
    return found.code.replace(KEY, key)


def said(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_snippet_lists_the_tools(endpoint: Endpoint, tmp_path: Path) -> None:
    path = tmp_path / "snippet.py"
    path.write_text(shown(endpoint, "python"))
    assert "say_it_again" in said([sys.executable, str(path)], tmp_path)


@pytest.mark.parametrize("name", ["typescript", "typescript-v1"])
def test_the_typescript_snippets_list_the_tools(endpoint: Endpoint, tmp_path: Path, name: str) -> None:
    (tmp_path / "node_modules").symlink_to(installed_modules())
    path = tmp_path / "snippet.mjs"
    path.write_text(shown(endpoint, name))
    assert "say_it_again" in said([*NODE, str(path)], tmp_path)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_the_curl_line_lists_the_tools(endpoint: Endpoint, tmp_path: Path) -> None:
    assert "say_it_again" in said(["sh", "-c", shown(endpoint, "curl")], tmp_path)
