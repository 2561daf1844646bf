"""Uploaded code for tests: a fake runner that this process asks, what it finds in uploads, and archives."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from servers.runner.engine import BuildResult
from servers.runner.fake import OFFER
from servers.services import running
from tests.runners import FakeRunner, fake_runner

__all__ = ["coded", "fake_runner"]
PROGRAM = b"from mcp.server.fastmcp import FastMCP\nmcp = FastMCP('weather')\n"


@pytest.fixture
def coded(fake_runner: FakeRunner, settings: Any) -> Iterator[FakeRunner]:
    """The runner that pages, workers and the API of this process ask."""
    settings.RUNNER_DIR = fake_runner.folder
    running.standing(anew=True)
    yield fake_runner
    settings.RUNNER_DIR = fake_runner.folder / "nowhere"
    running.standing(anew=True)


def tool(name: str, description: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": {"type": "object"}} | more


def offering(*tools: dict[str, Any], **more: Any) -> BuildResult:
    """What a build finds in code that lists these tools."""
    return msgspec.structs.replace(OFFER, tools=tools, packages=("mcp==1.30.0",), **more)


def archive(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        for name, text in files.items():
            zipped.writestr(name, text)
    return packed.getvalue()
