"""Servers in real sandboxes: who they are outside, what they see, how they end, and one on the official SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from servers.runner.engine import MIB, Limits
from servers.runner.errors import Died, OverShare
from servers.runner.instance import Rules
from servers.runner.local import LocalEngine
from tests.runners import ENVELOPE, Clock, call, local_engine, post, spec_of
from tests.sandboxes import add_packages, make_artifact

pytestmark = pytest.mark.asyncio(loop_scope="module")
CLOCK = Clock()


@pytest.fixture(scope="module")
def artifact(workshop: Path) -> Path:
    return make_artifact(workshop / "artifact", "server.py", "shaker.py", "hostile.py", "bomb.py")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(workshop: Path) -> AsyncIterator[LocalEngine]:
    async with local_engine(workshop, clock=CLOCK, rules=Rules(check=0.3)) as engine:
        yield engine


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def empty(engine: LocalEngine) -> AsyncIterator[None]:
    """Each test leaves nothing: no instance, no process of a server's user, no control group."""
    yield
    for info in await engine.instances():
        await engine.stop(info.instance)
    assert processes_of(engine) == {}
    assert engine._limiter.names() == []


def processes_of(engine: LocalEngine) -> dict[int, int]:
    """Living processes in the engine's control groups: number → the user they are on this machine."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text()
            groups = (folder / "cgroup").read_text()
        except OSError:
            continue
        if f"/{engine._settings.name}/" in groups and "State:\tZ" not in status:
            found[int(folder.name)] = int(status.partition("\nUid:")[2].split()[0])
    return found


async def test_every_server_is_a_user_of_its_own(engine: LocalEngine, artifact: Path) -> None:
    for tenant, server in (("acme", "one"), ("acme", "two"), ("globex", "one")):
        await engine.ensure(spec_of(artifact, tenant=tenant, server=server))
    users = processes_of(engine)
    assert len(set(users.values())) == 3
    assert 0 not in users.values()


async def test_inside_all_are_nobody(engine: LocalEngine, artifact: Path) -> None:
    assert (await call(await engine.ensure(spec_of(artifact)), "who")).text == "65534"


async def test_a_secret_is_seen_inside_and_nowhere_else(engine: LocalEngine, artifact: Path) -> None:
    secret = "s3cret-value-of-acme"
    endpoint = await engine.ensure(
        spec_of(artifact, secrets={"API_KEY": secret}, variables={"REGION": "emea"})
    )
    assert (await call(endpoint, "environment", name="API_KEY")).text == secret
    assert (await call(endpoint, "environment", name="REGION")).text == "emea"
    await call(endpoint, "log", line=f"the key is {secret}.")
    await until(lambda: "the key is ***." in texts(engine, endpoint.instance))
    assert secret not in repr(await engine.instances())
    for number in processes_of(engine):
        command = command_of(number)
        assert secret.encode() not in command
        if b"bwrap" in command:
            assert secret.encode() not in Path(f"/proc/{number}/environ").read_bytes()


async def test_death_tells_the_callers_at_once_with_the_last_words(
    engine: LocalEngine, artifact: Path
) -> None:
    endpoint = await engine.ensure(spec_of(artifact))
    running = [asyncio.create_task(call(endpoint, "sleep", seconds=20)) for _ in range(3)]
    await until(lambda: engine._instances.infos()[0].in_flight == 3)
    began = asyncio.get_running_loop().time()
    reply = await call(endpoint, "crash")
    others = await asyncio.gather(*running)
    assert asyncio.get_running_loop().time() - began < 1
    assert [one.body["error"]["code"] for one in (reply, *others)] == ["died"] * 4
    assert reply.body["error"]["message"] == "The server's process is gone: it ended with code 3."
    assert "last words" in reply.body["error"]["data"]["log"]


async def test_a_frozen_server_is_ended_by_its_health(engine: LocalEngine, artifact: Path) -> None:
    """A stopped process neither answers nor dies; without a check it would stay for ever."""
    endpoint = await engine.ensure(spec_of(artifact))
    frozen = asyncio.create_task(call(endpoint, "freeze"))
    await until(lambda: engine._instances.infos()[0].in_flight == 1)
    await engine.reconcile()
    assert engine._instances.infos()[0].state == "ready"
    CLOCK.pass_(61)
    await engine.reconcile()
    reply = await frozen
    assert reply.body["error"]["code"] == "died"
    assert "answers no check" in reply.body["error"]["message"]
    await until(lambda: engine._instances.infos()[0].state == "crashed")


async def test_a_server_that_only_takes_its_time_passes_the_check(
    engine: LocalEngine, artifact: Path
) -> None:
    endpoint = await engine.ensure(spec_of(artifact))
    slow = asyncio.create_task(call(endpoint, "sleep", seconds=0.8))
    await until(lambda: engine._instances.infos()[0].in_flight == 1)
    CLOCK.pass_(61)
    await engine.reconcile()
    assert (await slow).status == 200
    assert engine._instances.infos()[0].crashes == 0


async def test_a_grandchild_that_left_the_group_is_gone_with_the_rest(
    engine: LocalEngine, artifact: Path
) -> None:
    endpoint = await engine.ensure(spec_of(artifact))
    await call(endpoint, "daemon")
    await until(lambda: b"/usr/bin/sleep\x001000\x00" in map(command_of, processes_of(engine)))
    await engine.stop(endpoint.instance)
    assert processes_of(engine) == {}


async def test_whoever_hangs_up_cancels_the_call(engine: LocalEngine, artifact: Path) -> None:
    endpoint = await engine.ensure(spec_of(artifact))
    call_ = asyncio.create_task(call(endpoint, "sleep", seconds=20))
    await until(lambda: engine._instances.infos()[0].in_flight == 1)
    call_.cancel()
    await until(lambda: engine._instances.infos()[0].in_flight == 0)
    await until(lambda: any(line.startswith("cancelled") for line in texts(engine, endpoint.instance)))


async def test_a_call_that_takes_too_long_is_answered(engine: LocalEngine, artifact: Path) -> None:
    endpoint = await engine.ensure(spec_of(artifact, limits=Limits(call=0.2)))
    reply = await call(endpoint, "sleep", seconds=5)
    assert (reply.status, reply.body["error"]["code"]) == (504, "timed_out")
    assert (await call(endpoint, "echo")).status == 200


async def test_more_calls_than_slots_and_queue_are_told_to_come_back(
    engine: LocalEngine, artifact: Path
) -> None:
    endpoint = await engine.ensure(spec_of(artifact, limits=Limits(in_flight=2, queue=2)))
    replies = await asyncio.gather(*(call(endpoint, "sleep", seconds=0.3) for _ in range(6)))
    assert sorted(reply.status for reply in replies) == [200, 200, 200, 200, 429, 429]


async def test_one_process_serves_two_people_with_their_own_envelopes(
    engine: LocalEngine, artifact: Path
) -> None:
    endpoint = await engine.ensure(spec_of(artifact))
    people = [
        ENVELOPE | {"io.modelcontextprotocol/clientInfo": {"name": name, "version": "1"}} for name in "ab"
    ]
    asked = [post(endpoint, "tools/call", {"name": "meta", "_meta": meta}, number=1) for meta in people * 20]
    replies = await asyncio.gather(*asked)
    assert [json.loads(reply.text) for reply in replies] == people * 20
    assert engine._instances.infos()[0].starts == 1


async def test_sessions_do_not_share_a_process(engine: LocalEngine, artifact: Path) -> None:
    spec = spec_of(artifact, mode="session")
    one, two = await engine.ensure(spec, "one"), await engine.ensure(spec, "two")
    assert [(await call(one, "count")).text for _ in range(2)] == ["1", "2"]
    assert (await call(two, "count")).text == "1"


async def test_the_death_of_one_session_is_not_that_of_another(engine: LocalEngine, artifact: Path) -> None:
    spec = spec_of(artifact, mode="session")
    one, two = await engine.ensure(spec, "one"), await engine.ensure(spec, "two")
    await call(two, "count")
    assert (await call(one, "crash")).body["error"]["code"] == "died"
    assert (await call(two, "count")).text == "2"
    lines = await engine.server_logs("acme", "tools")
    assert {line.instance for line in lines} >= {one.instance, two.instance}
    assert [line.number for line in lines] == sorted({line.number for line in lines})


async def test_a_session_beyond_the_cap_waits_until_another_is_idle(
    engine: LocalEngine, artifact: Path
) -> None:
    spec = spec_of(artifact, mode="session", limits=Limits(sessions=2))
    running = []
    for name in ("one", "two"):
        endpoint = await engine.ensure(spec, name)
        running.append(asyncio.create_task(call(endpoint, "sleep", seconds=30)))
    await until(lambda: sum(info.in_flight for info in engine._instances.infos()) == 2)
    with pytest.raises(OverShare):
        await engine.ensure(spec, "three")
    assert await engine.ensure(spec_of(artifact, server="another", mode="session"), "three")
    running[0].cancel()
    await until(lambda: sum(info.in_flight for info in engine._instances.infos()) == 1)
    assert await engine.ensure(spec, "three")
    found = {info.session: info.state for info in engine._instances.infos("acme") if info.server == "tools"}
    assert found == {"one": "stopped", "two": "ready", "three": "ready"}
    running[1].cancel()


async def test_a_server_of_the_handshake_may_ask_its_clients_nothing(
    engine: LocalEngine, artifact: Path
) -> None:
    """Found by asking: it does not know `server/discover`."""
    endpoint = await engine.ensure(spec_of(artifact, "python3", "-I", "-S", "/app/shaker.py"))
    assert endpoint.era == "handshake"
    assert (await post(endpoint, "tools/call", {"name": "any"})).text == "shaken"
    await until(lambda: "client says -32601" in texts(engine, endpoint.instance))
    assert engine._instances.infos()[0].list_changes == 1


async def test_too_much_memory_is_given_as_the_reason(engine: LocalEngine, artifact: Path) -> None:
    entry = ("python3", "-I", "-S", "/app/bomb.py", "memory", "200")
    with pytest.raises(Died, match="it needed more than its 48 MiB of memory"):
        await engine.ensure(spec_of(artifact, *entry, limits=Limits(memory=48 * MIB)))


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (("python3", "-c", "raise SystemExit('no such thing')"), "it ended with code 1"),
        (("no-such-program",), "it ended with code"),
        (("python3", "-c", "import os; os.kill(os.getpid(), 11)"), "SIGSEGV"),
        (("/usr/bin/yes",), "it has not answered within 3 s"),
    ],
)
async def test_a_server_that_cannot_start_says_why(
    engine: LocalEngine, artifact: Path, entry: tuple[str, ...], why: str
) -> None:
    with pytest.raises(Died, match=why):
        await engine.ensure(spec_of(artifact, *entry, limits=Limits(start=3)))


async def test_a_missing_artifact_is_told(engine: LocalEngine, workshop: Path) -> None:
    with pytest.raises(Died, match="has no folder app"):
        await engine.ensure(spec_of(workshop / "nowhere"))


async def test_a_woken_server_remembers_nothing_but_answers(engine: LocalEngine, artifact: Path) -> None:
    endpoint = await engine.ensure(spec_of(artifact))
    await call(endpoint, "count")
    CLOCK.pass_(601)
    await engine.reconcile()
    assert engine._instances.infos()[0].state == "stopped"
    assert (await call(endpoint, "count")).text == "1"
    assert engine._instances.infos()[0].starts == 2


async def test_a_server_on_the_official_sdk_answers(engine: LocalEngine, workshop: Path) -> None:
    artifact = make_artifact(workshop / "sdk", "sdk.py")
    add_packages(artifact, "mcp")
    endpoint = await engine.ensure(spec_of(artifact, "/venv/bin/python", "-I", "/app/sdk.py"))
    assert endpoint.era == "modern"
    reply = await call(endpoint, "add", a=2, b=3)
    assert reply.body["result"]["structuredContent"] == {"result": 5}
    listed = await post(endpoint, "tools/list", {"_meta": ENVELOPE})
    assert [tool["name"] for tool in listed.body["result"]["tools"]] == ["add"]
    assert (await post(endpoint, "initialize", {"protocolVersion": "2025-11-25"})).status == 400


def command_of(number: int) -> bytes:
    return Path(f"/proc/{number}/cmdline").read_bytes()


def texts(engine: LocalEngine, instance: str) -> list[str]:
    return [line.text for line in engine._instances.logs(instance, 0)]


async def until(condition: Any, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
