"""Python servers, as people write them, from the command line to an answer: built and run in real sandboxes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from servers.runner.client import SOCKET
from tests.commands import MOORING
from tests.installation import Installation, installed
from tests.product.processes import until
from tests.sandboxes import readable_folder, require_sandboxes

# The common template: a lifespan, three tools, and a main that asks the environment which transport to use.
PROGRAM = '''\
# /// script
# requires-python = ">=3.11"
# dependencies = ["mcp<2"]
# ///
"""A shopping list."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mcp.server.fastmcp import Context, FastMCP


@dataclass
class Kitchen:
    shelf: str
    items: list[str] = field(default_factory=list)


@asynccontextmanager
async def lifespan(server: FastMCP) -> AsyncIterator[Kitchen]:
    print("the kitchen opens", file=sys.stderr)
    yield Kitchen(shelf=os.environ.get("SHELF", "nowhere"))


mcp = FastMCP(
    "kitchen",
    instructions="Keep the list short.",
    lifespan=lifespan,
    host=os.getenv("HOST", "0.0.0.0"),
    port=int(os.getenv("PORT", "8050")),
)


@mcp.tool()
async def add_item(ctx: Context, name: str) -> str:
    """Put something on the list."""
    kitchen = ctx.request_context.lifespan_context
    kitchen.items.append(name)
    return f"{name} is on the list on {kitchen.shelf}."


@mcp.tool()
async def all_items(ctx: Context) -> str:
    """Read the list."""
    return ", ".join(ctx.request_context.lifespan_context.items) or "nothing"


@mcp.tool()
async def clear(ctx: Context) -> str:
    """Throw the list away."""
    ctx.request_context.lifespan_context.items.clear()
    return "gone"


async def main() -> None:
    transport = os.getenv("TRANSPORT", "sse")
    if transport == "sse":
        await mcp.run_sse_async()
    else:
        await mcp.run_stdio_async()


if __name__ == "__main__":
    asyncio.run(main())
'''


@pytest.fixture(scope="module")
def hosting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with a runner of its own, and no worker."""
    require_sandboxes()
    with tempfile.TemporaryDirectory(prefix="mooring-") as folder, readable_folder() as store:
        data = tmp_path_factory.mktemp("installation")
        with installed(data, MOORING_RUNNER_DIR=folder, MOORING_RUNNER_STORE=str(store / "store")) as made:
            runner = subprocess.Popen([MOORING, "runner", "--folder", folder], env=made.environment)
            try:
                until(
                    lambda: os.path.exists(f"{folder}/{SOCKET}") or runner.poll() is not None,
                    "the runner listens",
                )
                yield made
            finally:
                runner.terminate()
                runner.wait(120)


def test_a_file_of_the_common_template_is_deployed_unchanged_and_answers(
    hosting: Installation, tmp_path: Path
) -> None:
    tenant = hosting.tenant()
    program = tmp_path / "kitchen.py"
    program.write_text(PROGRAM)
    deploy = ["deploy", str(program), "--tenant", tenant, "--server", "kitchen", "--public"]
    done = subprocess.run(
        [MOORING, *deploy, "--secret", "SHELF=the top shelf"],
        env=hosting.environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Published 1.0.0.",
        "Tools: 3",
        f"{hosting.origin}/t/{tenant}/kitchen/mcp",
    ]
    assert "the kitchen opens" in done.stderr
    assert "the top shelf" not in done.stderr
    at = f"{tenant}/kitchen"
    # The value of a secret does not come back, not even from the code that was given it.
    assert hosting.ok("call", at, "add_item", '{"name": "tea"}') == "tea is on the list on •••.\n"
    assert hosting.ok("call", at, "add_item", '{"name": "milk"}').startswith("milk is on the list")
    assert hosting.ok("call", at, "all_items") == "tea, milk\n"
    # The same file once more: the same artifact, so there is nothing new to publish.
    again = hosting.json(*deploy)
    assert (again["is_new_version"], again["version"]) == (False, "1.0.0")


# ---- servers of every kind -------------------------------------------------------------------------------

FASTMCP = """from fastmcp import FastMCP

mcp = FastMCP("reckoner")


@mcp.tool
def add(a: int, b: int) -> int:
    '''Add.'''
    return a + b
"""
OLD_SDK = """from mcp.server.fastmcp import FastMCP

mcp = FastMCP("old")


@mcp.tool()
def greet(name: str) -> str:
    return f"Hello {name}"


if __name__ == "__main__":
    mcp.run()
"""
NEW_SDK = """from mcp.server.mcpserver import MCPServer

server = MCPServer("new")


@server.tool()
def greet(name: str) -> str:
    return f"Good day {name}"
"""


def a_published_package(folder: Path) -> Path:
    """No code of its own: the package's command is what is served."""
    made = folder / "time"
    made.mkdir()
    (made / "requirements.txt").write_text("mcp-server-time\n")
    return made


def a_zip(folder: Path) -> Path:
    made = folder / "reckoner.zip"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("server.py", FASTMCP)
        archive.writestr("requirements.txt", "fastmcp\n")
    return made


def a_file(name: str, program: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        made = folder / name
        made.write_text(program)
        return made

    return write


SERVERS = {
    "mcp-server-time": (
        a_published_package,
        "convert_time",
        {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"},
        "T21:00:00+09:00",
    ),
    "fastmcp": (a_zip, "add", {"a": 2, "b": 40}, "42"),
    "mcp 1.x": (a_file("old.py", OLD_SDK), "greet", {"name": "Ada"}, "Hello Ada"),
    "mcp 2.x": (a_file("new.py", NEW_SDK), "greet", {"name": "Ada"}, "Good day Ada"),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_of_every_kind_is_deployed_and_answers_at_its_url(
    hosting: Installation, tmp_path: Path, kind: str
) -> None:
    made, tool, arguments, answer = SERVERS[kind]
    tenant = hosting.tenant()
    url = deployed(hosting, str(made(tmp_path)), "--tenant", tenant, "--server", "it", "--public")
    assert url == f"{hosting.origin}/t/{tenant}/it/mcp"
    assert answer in asyncio.run(said(url, tool, arguments))


def deployed(hosting: Installation, *what: str) -> str:
    """The address. Packages come from an index that refuses now and then, however often a build asks it again."""
    done = hosting.run("deploy", *what)
    for _ in range(2):
        if "Failed to download" in done.stderr:
            done = hosting.run("deploy", *what)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


async def said(url: str, tool: str, arguments: dict[str, Any]) -> str:
    """By the official SDK's client."""
    async with Client(url) as client:
        result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    return str(result.content[0].text)


def test_an_import_that_is_not_declared_is_named_with_the_block_to_paste(
    hosting: Installation, tmp_path: Path
) -> None:
    tenant = hosting.tenant()
    program = tmp_path / "broken.py"
    program.write_text(PROGRAM.replace("import asyncio\n", "import asyncio\nimport httpx_sse_of_ours\n"))
    failed = hosting.run("deploy", str(program), "--tenant", tenant, "--server", "broken")
    assert failed.returncode == 1
    assert "# /// script\n" in failed.stderr
    assert "httpx_sse_of_ours" in failed.stderr.splitlines()[-1]
