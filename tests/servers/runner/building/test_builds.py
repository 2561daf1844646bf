"""Builds of servers on the real SDKs, from the operator's own index: uploaded as they are, served as they are.

All three environments are made once for this file.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from packaging.specifiers import SpecifierSet

from servers.runner import eras
from servers.runner.building import dry_run
from servers.runner.building.artifacts import Artifact
from servers.runner.building.builds import Builder, Built, Source
from servers.runner.building.declarations import Declared, Entry
from servers.runner.building.dry_run import Offer
from servers.runner.building.environments import Environment, Lock
from servers.runner.building.interpreters import Interpreter
from servers.runner.building.progress import Event
from servers.runner.engine import Limits, RunSpec
from servers.runner.errors import Unbuildable
from servers.runner.logs import Log
from servers.runner.relay import Relay
from servers.runner.sandbox import launcher, process
from servers.runner.sandbox.cgroups import Limiter
from servers.runner.sandbox.users import Users
from tests.servers.runner.building.hand_made import WHEN
from tests.servers.runner.building.test_archives import zipped

USER = 268_000
_numbers = itertools.count(1)

# The common template: a lifespan, three tools, and a main that asks the environment which transport to use.
TEMPLATE = '''
"""Notes that are kept for as long as the server lives."""
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mcp.server.fastmcp import Context, FastMCP
from pydantic import Field

print("loading", flush=True)


@dataclass
class Notes:
    kept: list[str]


@asynccontextmanager
async def lifespan(server: FastMCP) -> AsyncIterator[Notes]:
    print("opening")
    try:
        yield Notes(["first"])
    finally:
        print("closing")


mcp = FastMCP("notes", lifespan=lifespan, host=os.getenv("HOST", "0.0.0.0"), port=int(os.getenv("PORT", "8050")))


@mcp.tool()
async def keep_note(ctx: Context, text: str) -> str:
    """Keep a note."""
    ctx.request_context.lifespan_context.kept.append(text)
    return f"kept {text}"


@mcp.tool()
async def all_notes(ctx: Context) -> str:
    """All notes so far."""
    print("a stray line", end="")
    os.write(1, b"a stray write")
    os.system("echo a stray child")
    return ", ".join(ctx.request_context.lifespan_context.kept)


@mcp.tool()
async def find_notes(ctx: Context, query: str, limit: int = 3) -> str:
    """Notes that hold a text."""
    return ", ".join([each for each in ctx.request_context.lifespan_context.kept if query in each][:limit])


async def main():
    if os.getenv("TRANSPORT", "sse") == "sse":
        await mcp.run_sse_async()
    else:
        await mcp.run_stdio_async()


if __name__ == "__main__":
    asyncio.run(main())
'''
FAST = """
from contextlib import asynccontextmanager
from fastmcp import FastMCP

@asynccontextmanager
async def lifespan(server):
    yield {"greeting": "hello"}

app = FastMCP("fast", instructions="Adds.", lifespan=lifespan)

@app.tool
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b

@app.resource("notes://{name}")
def note(name: str) -> str:
    return name

@app.prompt
def ask(about: str) -> str:
    return f"Tell me about {about}"

if __name__ == "__main__":
    app.run(transport="http", port=9000)
"""
SECOND = """
from mcp.server.mcpserver import MCPServer

server = MCPServer("second")

@server.tool()
def double(number: int) -> int:
    "Twice as much."
    print("stray", end="")
    return 2 * number

if __name__ == "__main__":
    server.run(transport="streamable-http")
"""
LOW = """
import mcp.types as types
from mcp.server.lowlevel import Server

app = Server("low")

@app.list_tools()
async def tools():
    return [types.Tool(name="echo", inputSchema={"type": "object"})]

@app.call_tool()
async def call(name, arguments):
    print("stray", end="")
    return [types.TextContent(type="text", text=str(arguments))]
"""
ONLY_MAIN = """
import asyncio
import os
from mcp.server.fastmcp import FastMCP

def build():
    mcp = FastMCP("made-in-main")
    @mcp.tool()
    def transport() -> str:
        return os.environ["TRANSPORT"]
    return mcp

if __name__ == "__main__":
    build().run()
"""

PROGRAMS = {
    "low.py": LOW,
    "main.py": ONLY_MAIN,
    "second.py": SECOND,
    "two.py": TEMPLATE + "\nother = FastMCP('other')\n@other.tool()\ndef only() -> str:\n    return ''\n",
    "src/shop/__init__.py": "",
    "src/shop/server.py": "from .tools import mcp\nfrom shop import tools\nassert tools.mcp is mcp\n",
    "src/shop/tools.py": TEMPLATE,
    "near.py": "from mcp.server.fastmcp import FastMCP\nmcp = FastMCP('x')\nimport more\n",
    "more.py": "from near import mcp\n@mcp.tool()\ndef added() -> str:\n    return ''\n",
    "argument.py": "from mcp.server.fastmcp import FastMCP\nmcp = FastMCP(\n    'x',\n    description='no',\n)\n",
    "fails.py": "from mcp.server.fastmcp import FastMCP\n1 / 0\n",
    "ends.py": "raise SystemExit(4)\n",
    "nothing.py": "x = 1\n",
    "opens.py": TEMPLATE.replace('print("opening")', 'raise RuntimeError("no database")'),
}


@pytest.fixture(scope="module")
def store(workshop: Path) -> Path:
    return workshop / "store"


@pytest.fixture
def builder(store: Path, limiter: Limiter) -> Builder:
    return Builder(store, limiter, Users(USER, 100))


_built: dict[str, Built] = {}
_UPLOADS = {
    "notes": ("notes.py", TEMPLATE.encode()),
    "fast": ("fast.py", FAST.encode()),
    "time": ("time.zip", zipped({"requirements.txt": b"mcp-server-time\n"})),
}


async def built(builder: Builder, name: str) -> Built:
    """Each is built once."""
    if name not in _built:
        file, data = _UPLOADS[name]
        _built[name] = await builder.build(Source(data, file, WHEN))
    return _built[name]


@contextlib.asynccontextmanager
async def running(made: Built, limiter: Limiter) -> AsyncIterator[tuple[Relay, eras.Opened, Log]]:
    spec = RunSpec(
        tenant="acme",
        server="x",
        digest=made.artifact.digest,
        artifact=str(made.artifact.folder),
        entry=made.artifact.entry,
        runtime=made.artifact.runtime,
        era=made.offer.era,
    )
    sandbox = await process.start(
        launcher.plan_for(spec, spec.runtime), name=f"t{next(_numbers)}", limiter=limiter, user=USER + 200
    )
    log = Log()
    relay = Relay(sandbox.process, spec.limits, log, sandbox.kill, explain=sandbox.explain)
    try:
        yield relay, await eras.open_up(relay, spec.era, seconds=60), log
    finally:
        await relay.stop(2)
        await sandbox.remove()


async def called(relay: Relay, era: str, tool: str, **arguments: object) -> Any:
    params: dict[str, object] = {"name": tool, "arguments": arguments}
    if era == "modern":
        params["_meta"] = dry_run.META
    answer = await relay.call("tools/call", msgspec.json.encode(params), seconds=30)
    return json.loads(bytes(answer.result or answer.error))


async def offer_of(builder: Builder, like: Built, target: str, limiter: Limiter) -> Offer:
    """What another of the bundle's programs offers, in the environment of a build."""
    artifact = await bundle(builder, like)
    spec = RunSpec(
        tenant="acme",
        server="x",
        digest=artifact.digest,
        artifact=str(artifact.folder),
        entry=(*artifact.entry[:-1], target),
        runtime=artifact.runtime,
        era=like.offer.era,
        limits=Limits(start=60),
    )
    return await dry_run.offered(spec, limiter, user=USER + 300, heard=lambda line: None)


async def bundle(builder: Builder, like: Built) -> Artifact:
    """All programs of this file in one artifact: they differ in what is asked of the bootstrap only."""
    manifest = like.artifact.manifest
    folder = builder.environments.folder / manifest.environment
    return await builder.artifacts.pack(
        {path: text.encode() for path, text in PROGRAMS.items()},
        Declared(Entry("low.py"), "shared", (), "", SpecifierSet()),
        Lock(like.artifact.lock),
        Environment(manifest.environment, folder, manifest.tree),
        Interpreter(manifest.runtime, manifest.python, ""),
        builder.tools,
    )


async def refused(builder: Builder, like: Built, target: str, limiter: Limiter) -> str:
    with pytest.raises(Unbuildable) as caught:
        await offer_of(builder, like, target, limiter)
    return caught.value.message


def names(offer: Offer) -> list[str]:
    return [str(tool["name"]) for tool in offer.tools]


def texts(answer: Any) -> list[str]:
    return [part["text"] for part in answer["content"]]


# ---- the first SDK -------------------------------------------------------------------------------------------


async def test_a_server_in_the_common_shape_is_built_unchanged(builder: Builder) -> None:
    made = await built(builder, "notes")
    assert names(made.offer) == ["keep_note", "all_notes", "find_notes"]
    assert made.offer.era == "handshake"
    assert made.offer.name == "notes"
    assert made.artifact.manifest.target == "notes.py"
    assert any(package.startswith("mcp==1.") for package in made.packages)
    assert all("--hash=sha256:" in part for part in made.artifact.lock.split("==")[1:])
    assert "://" not in made.artifact.lock


async def test_it_runs_with_its_lifespan_and_stray_prints_spoil_nothing(
    builder: Builder, limiter: Limiter
) -> None:
    made = await built(builder, "notes")
    async with running(made, limiter) as (relay, opened, log):
        assert texts(await called(relay, opened.era, "keep_note", text="second")) == ["kept second"]
        assert texts(await called(relay, opened.era, "all_notes")) == ["first, second"]
        assert texts(await called(relay, opened.era, "find_notes", query="sec")) == ["second"]
        assert relay.junk == 0
    said = "\n".join(line.text for line in log.after(0))
    for text in ("loading", "opening", "a stray line", "a stray write", "a stray child", "closing"):
        assert text in said


async def test_the_same_upload_is_the_same_artifact_and_its_packages_are_there_already(
    builder: Builder,
) -> None:
    made = await built(builder, "notes")
    events: list[Event] = []
    again = await builder.build(Source(TEMPLATE.encode(), "notes.py", WHEN), events.append)
    assert again.artifact.digest == made.artifact.digest
    assert any("installed already" in event.line for event in events)
    assert list(dict.fromkeys(event.stage for event in events)) == [
        "read", "declare", "resolve", "install", "pack", "try", "done",
    ]  # fmt: skip
    assert [event.percent for event in events] == sorted(event.percent for event in events)


async def test_an_import_that_nothing_brings_is_refused_with_the_block_to_paste(builder: Builder) -> None:
    await built(builder, "notes")
    with pytest.raises(Unbuildable) as caught:
        await builder.build(Source(b"import yaml\n" + TEMPLATE.encode(), "notes.py", WHEN))
    assert caught.value.data["file"] == "notes.py"
    assert caught.value.data["line"] == 1
    assert caught.value.data["block"].splitlines()[2:5] == [
        "# dependencies = [",
        '#   "mcp<2",',
        '#   "pyyaml",',
    ]


async def test_a_low_level_server_is_found(builder: Builder, limiter: Limiter) -> None:
    assert names(await offer_of(builder, await built(builder, "notes"), "low.py", limiter)) == ["echo"]


async def test_a_file_without_a_server_object_is_run_as_a_program(builder: Builder, limiter: Limiter) -> None:
    assert names(await offer_of(builder, await built(builder, "notes"), "main.py", limiter)) == ["transport"]


@pytest.mark.parametrize(("target", "tool"), [("main.py:build", "transport"), ("two.py:other", "only")])
async def test_the_named_server_is_served_also_out_of_a_function(
    builder: Builder, limiter: Limiter, target: str, tool: str
) -> None:
    assert names(await offer_of(builder, await built(builder, "notes"), target, limiter)) == [tool]


async def test_a_server_in_a_package_may_import_its_neighbours(builder: Builder, limiter: Limiter) -> None:
    made = await built(builder, "notes")
    assert len((await offer_of(builder, made, "src/shop/server.py", limiter)).tools) == 3


async def test_a_neighbour_that_imports_the_entry_gets_the_same_module(
    builder: Builder, limiter: Limiter
) -> None:
    assert names(await offer_of(builder, await built(builder, "notes"), "near.py", limiter)) == ["added"]


async def test_several_servers_are_listed_with_how_to_choose(builder: Builder, limiter: Limiter) -> None:
    said = await refused(builder, await built(builder, "notes"), "two.py", limiter)
    assert "mcp, other" in said
    assert 'entry = "two.py:mcp"' in said


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "argument.py",
            "argument.py, line 2: TypeError: FastMCP.__init__() got an unexpected keyword argument 'description'",
        ),
        ("fails.py", "fails.py, line 2: ZeroDivisionError"),
        ("two.py:nothing", "has no nothing"),
        ("two.py:Notes.__doc__", "no server"),
        ("ends.py", "exit code 4"),
        ("nothing.py", "The server does not start"),
        ("opens.py", "RuntimeError: no database"),
        ("no-such-command", "No package brings one command"),
    ],
)
async def test_a_server_that_does_not_start_says_why_in_a_sentence(
    builder: Builder, limiter: Limiter, target: str, said: str
) -> None:
    assert said in await refused(builder, await built(builder, "notes"), target, limiter)


# ---- the second SDK, and a package's command -----------------------------------------------------------------


async def test_an_upload_that_only_names_a_package_serves_what_it_brings(
    builder: Builder, limiter: Limiter
) -> None:
    made = await built(builder, "time")
    assert made.artifact.manifest.target == "mcp-server-time"
    assert made.offer.era == "modern"
    assert set(names(made.offer)) >= {"get_current_time", "convert_time"}
    async with running(made, limiter) as (relay, opened, _):
        answer = await called(relay, opened.era, "get_current_time", timezone="UTC")
        assert not answer.get("isError")


async def test_a_server_of_the_second_sdk_is_served(builder: Builder, limiter: Limiter) -> None:
    made = await built(builder, "time")
    offer = await offer_of(builder, made, "second.py", limiter)
    assert (offer.era, offer.name, names(offer)) == ("modern", "second", ["double"])


# ---- fastmcp -------------------------------------------------------------------------------------------------


async def test_a_fastmcp_server_is_built_and_served(builder: Builder, limiter: Limiter) -> None:
    made = await built(builder, "fast")
    assert names(made.offer) == ["add"]
    assert [template["uriTemplate"] for template in made.offer.resource_templates] == ["notes://{name}"]
    assert [prompt["name"] for prompt in made.offer.prompts] == ["ask"]
    assert made.offer.instructions == "Adds."
    async with running(made, limiter) as (relay, opened, _):
        assert texts(await called(relay, opened.era, "add", a=2, b=3)) == ["5"]
