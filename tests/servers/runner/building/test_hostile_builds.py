"""Builds of hostile things, from a folder of wheels made here: nothing of them reaches this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from servers.runner.building import index as indexes
from servers.runner.building import interpreters
from servers.runner.building.builds import Builder
from servers.runner.building.inside.bounds import MIB
from servers.runner.building.progress import Event
from servers.runner.building.rooms import Rooms
from servers.runner.errors import BuildFailed, Unbuildable
from servers.runner.sandbox.cgroups import Limiter
from servers.runner.sandbox.launcher import runtime_trees
from servers.runner.sandbox.users import Users
from tests.sandboxes import readable_folder
from tests.servers.runner.building.hand_made import (
    USER,
    build,
    builder_in,
    environ_of,
    needing,
    refused,
    seen,
    server,
    web_environ,
    web_index,
)
from tests.servers.runner.building.test_archives import HOSTILE, member, tarred, zipped

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
