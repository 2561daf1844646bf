"""Builds of hostile things, from a folder of wheels made here: nothing of them reaches this machine."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from servers.runner.building import index as indexes
from servers.runner.building import interpreters
from servers.runner.building.builds import Builder, Built, Source
from servers.runner.building.inside.bounds import MIB
from servers.runner.building.inside.forwarding import SOCKET
from servers.runner.building.progress import Event, Reporter
from servers.runner.building.rooms import Rooms
from servers.runner.egress import Proxy, allowed
from servers.runner.engine import Limits, RunSpec
from servers.runner.errors import BuildFailed, Missing, Tampered, Unbuildable
from servers.runner.sandbox import launcher, process
from servers.runner.sandbox.cgroups import Limiter
from servers.runner.sandbox.launcher import runtime_trees
from servers.runner.sandbox.users import Users
from tests.sandboxes import readable_folder
from tests.servers.runner.building.conftest import WHEN
from tests.servers.runner.building.test_archives import HOSTILE, member, tarred, zipped
from tests.servers.runner.building.wheels import make_source, make_wheel

USER = 269_000
# Speaks the protocol by hand, so that it needs no SDK: no environment has to be installed for it.
BY_HAND = """
import json, os, sys
sys.stderr.write("started with " + os.environ["TRANSPORT"] + chr(10))
TOOLS = [{"name": "probe", "description": DESCRIPTION, "inputSchema": {"type": "object"}}]
for line in sys.stdin:
    asked = json.loads(line)
    answers = {
        "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "hand"}},
        "tools/list": {"tools": TOOLS},
    }
    if "id" in asked:
        known = asked["method"] in answers
        answer = {"result": answers[asked["method"]]} if known else {"error": {"code": -32601, "message": "no"}}
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **answer}), flush=True)
"""


def server(description: str = "'nothing'", before: str = "") -> str:
    """`description` is an expression whose value the build gets to see."""
    return f"{before}\nDESCRIPTION = str(({description}))\n{BY_HAND}"


def needing(*requirements: str, code: str = "") -> bytes:
    return zipped(
        {"server.py": (code or server()).encode(), "requirements.txt": "\n".join(requirements).encode()}
    )


@pytest.fixture(scope="module")
def shelf() -> Iterator[Path]:
    """The folder of wheels that is the operator's whole index."""
    with readable_folder() as folder:
        make_wheel(folder, "plain")
        make_wheel(folder, "other")
        make_source(folder, "onlysource")
        marker = (
            "import os; os.system('touch /tmp/mooring-pth-ran'); os.system('touch /app/mooring-pth-ran')\n"
        )
        make_wheel(folder, "marking", files={"marking.pth": marker.encode()})
        make_wheel(folder, "huge", files={f"huge_{n}.bin": bytes(160 * MIB) for n in range(2)})
        for number in range(101):
            make_wheel(folder, f"small{number}")
        make_wheel(folder, "many", requires=tuple(f"small{number}" for number in range(101)))
        yield folder


def environ_of(shelf: Path) -> dict[str, str]:
    """Our own environment, with the operator's configuration of pip replaced."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf)}


@pytest.fixture(scope="module")
def store(workshop: Path) -> Path:
    return workshop / "store"


def builder_in(store: Path, limiter: Limiter, environ: dict[str, str]) -> Builder:
    return Builder(store, limiter, Users(USER, 100), environ=environ)


@pytest.fixture
def builder(store: Path, limiter: Limiter, shelf: Path) -> Builder:
    return builder_in(store, limiter, environ_of(shelf))


async def build(builder: Builder, data: bytes, events: list[Event] | None = None, **options: object) -> Built:
    heard = [] if events is None else events
    return await builder.build(Source(data, "upload", WHEN, **options), heard.append)  # type: ignore[arg-type]


async def refused(
    builder: Builder, data: bytes, events: list[Event] | None = None, **options: object
) -> Unbuildable:
    with pytest.raises(Unbuildable) as caught:
        await build(builder, data, events, **options)
    return caught.value


def seen(made: Built) -> str:
    return str(made.offer.tools[0]["description"])


# ---- uploads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["zip slip", "tar symlink", "chain of links", "gzip bomb", "too many files"])
async def test_a_hostile_archive_is_refused_by_the_build_as_it_is_by_the_reader(
    builder: Builder, case: str
) -> None:
    make, said = HOSTILE[case]
    refusal = await refused(builder, make())
    assert said in refusal.message
    assert refusal.data["stage"] == "read"


async def test_a_program_that_speaks_the_protocol_itself_is_run_with_its_real_streams(
    builder: Builder,
) -> None:
    events: list[Event] = []
    made = await build(builder, server().encode(), events)
    assert made.offer.name == "hand"
    assert made.packages == ()
    assert any("started with stdio" in event.line for event in events)


async def test_the_way_an_upload_was_packed_makes_no_difference(builder: Builder, tmp_path: Path) -> None:
    text = server().encode()
    packed = [zipped({"server.py": text}), tarred(member("server.py", text)), text]
    assert len({(await build(builder, data)).artifact.digest for data in packed}) == 1


async def test_a_python_that_is_not_here_is_refused_with_the_ones_that_are(builder: Builder) -> None:
    files = {"server.py": server().encode(), "pyproject.toml": b'[project]\nrequires-python = ">=3.99"\n'}
    refusal = await refused(builder, zipped(files))
    assert ">=3.99" in refusal.message
    assert (await interpreters.usable())[0].version in refusal.message


# ---- packages ------------------------------------------------------------------------------------------------


async def test_a_source_distribution_is_refused_and_its_build_never_runs(builder: Builder) -> None:
    events: list[Event] = []
    refusal = await refused(builder, needing("onlysource"), events)
    assert refusal.data["stage"] == "resolve"
    assert "onlysource" in refusal.message
    assert not any("the build has run" in event.line for event in events)


@pytest.mark.parametrize(
    "line", ["plain @ file:///etc/passwd", "git+https://example.com/x.git", "./plain", "-e ."]
)
async def test_an_address_is_refused_before_any_index_is_asked(
    store: Path, limiter: Limiter, line: str
) -> None:
    events: list[Event] = []
    unreachable = {**environ_of(store), "PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    refusal = await refused(builder_in(store, limiter, unreachable), needing(line), events)
    assert refusal.data["stage"] == "declare"
    assert refusal.data["line"] == 1
    assert {event.stage for event in events} == {"read", "declare"}


async def test_what_a_wheel_runs_by_itself_runs_inside_only(builder: Builder) -> None:
    marker = Path("/tmp/mooring-pth-ran")
    code = server("__import__('os').path.exists('/tmp/mooring-pth-ran'), __import__('marking').VALUE")
    made = await build(builder, needing("marking", code=code))
    assert seen(made) == "(True, 1)"
    assert not marker.exists()
    assert not list(builder.artifacts.folder.rglob("mooring-pth-ran"))


async def test_an_environment_that_is_too_large_is_refused(builder: Builder) -> None:
    refusal = await refused(builder, needing("huge"))
    assert refusal.data["stage"] == "install"
    assert "MiB" in refusal.message


async def test_more_than_a_hundred_packages_are_refused(builder: Builder) -> None:
    assert "102 packages" in (await refused(builder, needing("many"))).message


async def test_a_package_nobody_has_is_refused_with_what_the_resolver_says(builder: Builder) -> None:
    assert "nosuchpackage" in (await refused(builder, needing("nosuchpackage>=2"))).message


async def test_the_same_packages_are_installed_once_and_a_changed_environment_is_made_anew(
    builder: Builder,
) -> None:
    made = await build(builder, needing("plain"))
    events: list[Event] = []
    again = await build(builder, needing("plain", code=server("2")), events)
    assert any("installed already" in event.line for event in events)
    assert again.artifact.manifest.environment == made.artifact.manifest.environment
    folder = builder.environments.folder / made.artifact.manifest.environment
    (folder / "venv" / "added.pth").write_text("import evil")
    events.clear()
    await build(builder, needing("plain", code=server("3")), events)
    assert not any("installed already" in event.line for event in events)
    assert not (folder / "venv" / "added.pth").exists()


async def test_the_same_input_makes_the_same_artifact_from_nothing(
    builder: Builder, limiter: Limiter, shelf: Path
) -> None:
    made = await build(builder, needing("plain", "other"))
    with readable_folder() as elsewhere:
        again = await build(
            builder_in(elsewhere / "store", limiter, environ_of(shelf)), needing("other", "plain")
        )
    assert again.artifact.manifest.tree == made.artifact.manifest.tree
    assert (await build(builder, needing("plain", "other"))).artifact.digest == made.artifact.digest
    assert made.artifact.manifest.lock == again.artifact.manifest.lock


# ---- the index -----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def web_index(shelf: Path) -> AsyncIterator[tuple[int, list[str]]]:
    """A package index on the web, with pages that link to files, and what it was asked for."""
    asked: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            asked.append(head)
            wheel = shelf / path.rpartition("/")[2]
            if path == "/simple/plain/":
                body, kind = (
                    b'<a href="../../files/plain-1.0-py3-none-any.whl">plain-1.0-py3-none-any.whl</a>',
                    "text/html",
                )
            elif path.startswith("/files/") and wheel.is_file():
                body, kind = wheel.read_bytes(), "application/octet-stream"
            else:
                body, kind = b"", ""
            status = "200 OK" if kind else "404 Not Found"
            length = len(body)
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n".encode()
            )
            writer.write(b"Connection: close\r\n\r\n" + (b"" if head.startswith("HEAD") else body))
            await writer.drain()
        writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1], asked
    finally:
        listener.close()


def web_environ(port: int, credentials: str = "") -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    return {**kept, "UV_DEFAULT_INDEX": f"http://{credentials}127.0.0.1:{port}/simple"}


async def test_a_build_reaches_the_index_through_the_proxy_and_its_password_stays_hidden(
    store: Path, limiter: Limiter, shelf: Path
) -> None:
    events: list[Event] = []
    async with web_index(shelf) as (port, asked):
        made = await build(
            builder_in(store, limiter, web_environ(port, "deploy:s3cret-pass@")), needing("plain"), events
        )
        assert made.packages == ("plain==1.0",)
    assert any(head.startswith("GET /files/plain") for head in asked)
    assert all("uthorization: Basic" in head for head in asked if "/simple/" in head)
    for text in ["\n".join(event.line for event in events), made.artifact.lock]:
        assert "s3cret-pass" not in text
    assert not any(
        b"s3cret-pass" in path.read_bytes() for path in made.artifact.folder.glob("*") if path.is_file()
    )


async def test_an_index_that_cannot_be_reached_is_nobodys_fault(store: Path, limiter: Limiter) -> None:
    with pytest.raises(BuildFailed, match=r"127\.0\.0\.1"):
        await build(builder_in(store, limiter, web_environ(9)), needing("plain"))


# What is tried from inside a build, while it can reach the index. Prints the doors that were open.
ATTACK = """
import json, os, socket, sys, urllib.request
opened = []
def attempt(name, action):
    try:
        action()
        opened.append(name)
    except OSError:
        pass
def fetch(url):
    urllib.request.urlopen(url, timeout=5).close()
host, index = sys.argv[1], sys.argv[2]
attempt("index", lambda: fetch(f"http://127.0.0.1:{index}" + "/simple/plain/"))
attempt("another port of the host", lambda: fetch(f"http://127.0.0.1:{host}/"))
attempt("another host", lambda: fetch("http://example.com/"))
attempt("metadata", lambda: fetch("http://169.254.169.254/"))
attempt("host without the proxy", lambda: socket.create_connection(("127.0.0.1", int(host)), 2).close())
attempt("outside without the proxy", lambda: socket.create_connection(("203.0.113.1", 80), 2).close())
for place in ("/tools", "/tools/programs", "/index", "/usr/lib", "/", "/etc", "/run"):
    attempt("write " + place, lambda: open(os.path.join(place, "x"), "w").close())
attempt("password file", lambda: open("/etc/passwd").close())
seen = open("/proc/1/environ").read() + open("/proc/1/cmdline").read() + json.dumps(dict(os.environ))
has_secret, root = "planted-" + "secret" in seen, os.listdir("/")
print(json.dumps({"opened": opened, "secret": has_secret, "root": root, "uid": os.getuid()}))
"""


async def test_a_build_reaches_the_index_and_nothing_else(
    builder: Builder, limiter: Limiter, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_SECRET_KEY", "planted-secret")
    interpreter = (await interpreters.usable())[0]
    async with web_index(shelf) as (port, _), web_index(shelf) as (other, reached):
        index = await indexes.configured(builder.tools.folder / "uv", web_environ(port))
        reach = await indexes.reach(index, ["plain"])
        command = [interpreter.path, "-I", "-c", ATTACK, str(other), str(port)]
        heard: list[str] = []
        run = builder.environments.reaching_index(
            "forward", command, b"", MIB, interpreter, reach, heard.append
        )
        async with run as ended:
            found = json.loads(ended.output.read())
    assert found["opened"] == ["index"]
    assert not found["secret"]
    assert found["uid"] != 0
    assert reached == []
    assert not {"work", "home", "root", "var", "srv", "opt"} & set(found["root"])
    assert sum("was shut" in line for line in heard) == 3


# ---- limits --------------------------------------------------------------------------------------------------


async def run_inside(limiter: Limiter, code: str, **options: object) -> str:
    interpreter = (await interpreters.usable())[0]
    rooms = Rooms(limiter, Users(USER + 200, 10))
    trees = runtime_trees(Path(interpreter.path))
    async with rooms.user() as user:
        line = [interpreter.path, "-I", "-c", code]
        async with rooms.run(line, user=user, trees=trees, **options) as ended:  # type: ignore[arg-type]
            return ended.why or ended.output.read().decode()


async def test_a_build_that_takes_too_long_is_ended(limiter: Limiter) -> None:
    with pytest.raises(Unbuildable, match=r"0\.5 s"):
        await run_inside(limiter, "import time; time.sleep(600)", seconds=0.5)


async def test_a_build_that_takes_too_much_memory_is_ended(limiter: Limiter) -> None:
    bomb = "import os\nfor _ in range(1200): os.write(os.memfd_create('x'), bytes(2**20))\nprint('survived')"
    assert "1024 MiB of memory" in await run_inside(limiter, bomb)


async def test_a_build_that_writes_too_much_is_ended(limiter: Limiter) -> None:
    with pytest.raises(Unbuildable, match="more than 1 MiB"):
        await run_inside(limiter, "while True: print('x' * 10000)", most=MIB)


async def test_nothing_is_left_of_a_build(limiter: Limiter, builder: Builder) -> None:
    with pytest.raises(Unbuildable):
        await build(builder, needing("nosuchpackage"))
    assert limiter.names() == []
    assert list(builder.environments.incoming.iterdir()) == []


# ---- the dry run ---------------------------------------------------------------------------------------------


async def test_a_server_that_opens_a_port_instead_of_answering_is_told_to_use_stdio(builder: Builder) -> None:
    code = b"import socket, time\nsocket.create_server(('127.0.0.1', 8000))\ntime.sleep(600)\n"
    refusal = await refused(builder, code, limits=Limits(start=2))
    assert "use stdio" in refusal.message
    assert refusal.data["stage"] == "try"


async def test_secrets_are_seen_by_the_server_and_kept_out_of_the_log(builder: Builder) -> None:
    code = server(
        "__import__('os').environ['REGION']", "import os, sys; print(os.environ['TOKEN'], file=sys.stderr)"
    )
    events: list[Event] = []
    made = await build(
        builder, code.encode(), events, variables={"REGION": "north"}, secrets={"TOKEN": "hunter2-hunter2"}
    )
    assert seen(made) == "north"
    assert any("***" in event.line for event in events)
    assert "hunter2" not in "".join(event.line for event in events)


async def test_a_flood_in_the_log_does_not_hide_the_reason(builder: Builder) -> None:
    code = b"import sys\nfor n in range(5000): print(n, file=sys.stderr)\nraise RuntimeError('the reason')\n"
    events: list[Event] = []
    assert "the reason" in (await refused(builder, code, events)).message
    assert len(events) < 2_100


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"tools": TOOLS * 2000}', "too much"),
        ('{"tools": [], "nextCursor": "again"}', "no end"),
        ('{"tools": 7}', "does not start"),
    ],
)
async def test_lists_without_measure_are_refused(builder: Builder, answer: str, said: str) -> None:
    code = server().replace('{"tools": TOOLS}', answer)
    assert said in (await refused(builder, code.encode())).message


async def test_a_server_that_is_tried_can_write_nowhere_that_stays(builder: Builder) -> None:
    code = """
import os, site
opened = []
for place in ("/app", "/venv", "/venv/mooring", *site.getsitepackages(), "/usr/bin", "/"):
    try:
        open(os.path.join(place, "written"), "w").close()
        opened.append(place)
    except OSError:
        pass
"""
    assert seen(await build(builder, needing("plain", code=server("opened", code)))) == "[]"


FETCHING = """
import urllib.request
def fetched(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status
    except OSError as error:
        return getattr(error, "code", type(error).__name__)
import os
port = os.environ["INDEX_PORT"]
hosts = ("api.example.com", "other.example.com", "127.0.0.1")
answers = [fetched(f"http://{host}:{port}" + "/simple/plain/") for host in hosts]
"""


async def test_a_running_server_gets_out_to_its_listed_hosts_alone(
    builder: Builder, limiter: Limiter, shelf: Path, workshop: Path
) -> None:
    """The socket of its proxy is mounted into its sandbox; the bootstrap leads the usual variables there."""

    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    made = await build(builder, server("answers", FETCHING).encode(), variables={"INDEX_PORT": "9"})
    assert seen(made) == "['URLError', 'URLError', 'URLError']"
    async with web_index(shelf) as (port, _):
        proxy = Proxy([allowed(f"api.example.com:{port}")], permits=lambda address, port: True, lookup=lookup)
        door = workshop / "way-out"
        async with proxy.listening(door, owner=USER + 300):
            spec = RunSpec(
                tenant="acme",
                server="x",
                digest=made.artifact.digest,
                artifact=str(made.artifact.folder),
                entry=made.artifact.entry,
                runtime=made.artifact.runtime,
                variables={"INDEX_PORT": str(port)},
            )
            plan = launcher.plan_for(spec, spec.runtime)
            plan = dataclasses.replace(plan, trees=[*plan.trees, launcher.Tree(str(door), SOCKET)])
            sandbox = await process.start(plan, name="way-out", limiter=limiter, user=USER + 300)
            try:
                asked = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}\n'
                answer, _ = await asyncio.wait_for(sandbox.process.communicate(asked), 60)
            finally:
                await sandbox.remove()
    assert json.loads(answer)["result"]["tools"][0]["description"] == "[200, 403, 403]"


def test_the_log_is_bounded_and_clean() -> None:
    events: list[Event] = []
    report = Reporter(events.append, secrets=["s3cret"])
    report.line(
        "at https://user:pass@example.com/simple with s3cret \x1b[31mred\x1b[0m a\u202eb" + "x" * 5_000
    )
    assert events[0].line.startswith("at https://***@example.com/simple with *** red ab")
    assert len(events[0].line) < 2_100
    for _ in range(5_000):
        report.line("again")
    assert len(events) == 2_000
    assert events[-1].line == "More lines are not shown."


# Built once for all that look at it.
_plain: list[Built] = []

# ---- artifacts -----------------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[Path], object]] = {
    "a file of the upload": lambda folder: (folder / "app/server.py").write_text("evil"),
    "a new file": lambda folder: (folder / "app/sitecustomize.py").write_text("evil"),
    "a link": lambda folder: (folder / "app/more.py").symlink_to("/etc/passwd"),
    "a package": lambda folder: next(folder.glob("venv/lib/*/site-packages/plain.py")).write_text("evil"),
    "compiled code": lambda folder: next(
        folder.glob("venv/lib/*/site-packages/__pycache__/plain*")
    ).write_bytes(b"evil"),
    "a .pth file": lambda folder: (next(folder.glob("venv/lib/*/site-packages")) / "evil.pth").write_text(
        "import evil"
    ),
    "the interpreter": lambda folder: _relink(folder / "venv/bin/python", "/bin/sh"),
    "our own program": lambda folder: (folder / "venv/mooring/__main__.py").write_text("evil"),
    "the entry": lambda folder: (folder / "entry").write_text('["/bin/sh"]'),
    "the lock": lambda folder: (folder / "lock").write_text(""),
    "the manifest": lambda folder: _edit(folder / "manifest.json", "shared", "session"),
    "a file beside": lambda folder: (folder / "more").write_text(""),
    "a file less": lambda folder: (folder / "lock").unlink(),
}


def _relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def _edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("what", CHANGES)
async def test_an_artifact_that_was_changed_does_not_open(
    builder: Builder, limiter: Limiter, shelf: Path, what: str
) -> None:
    if not _plain:
        _plain.append(await build(builder, needing("plain")))
    made = _plain[0]
    with readable_folder() as elsewhere:
        copied = builder_in(elsewhere / "store", limiter, environ_of(shelf)).artifacts
        folder = copied.folder / made.artifact.digest
        shutil.copytree(made.artifact.folder, folder, symlinks=True)
        assert (await copied.open(made.artifact.digest)).manifest == made.artifact.manifest
        CHANGES[what](folder)
        with pytest.raises(Tampered):
            await copied.open(made.artifact.digest)


@pytest.mark.parametrize("digest", ["", "../../etc", "0" * 64, "A" * 64])
async def test_an_artifact_nobody_has_built_does_not_open(builder: Builder, digest: str) -> None:
    with pytest.raises(Missing):
        await builder.artifacts.open(digest)


async def test_a_removed_artifact_is_gone_and_its_environment_serves_the_next(builder: Builder) -> None:
    made = await build(builder, needing("plain", code=server("'gone'")))
    await builder.artifacts.remove(made.artifact.digest)
    with pytest.raises(Missing):
        await builder.artifacts.open(made.artifact.digest)
    assert (
        await build(builder, needing("plain", code=server("'gone'")))
    ).artifact.digest == made.artifact.digest
