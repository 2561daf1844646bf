"""One Python file, as people write them, from the command line to an answer: built and run in real sandboxes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.runner.client import SOCKET
from tests.installation import MOORING, Installation, installed
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
                runner.wait(60)


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
