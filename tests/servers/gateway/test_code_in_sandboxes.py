"""Uploaded code through the whole gateway in real sandboxes: a runner as its own process, killed now and then."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.scope import tenant_scope
from servers.runner.client import RunnerClient
from servers.runner.errors import Refused
from servers.services import running
from tests.conftest import World
from tests.product.processes import until as noticed
from tests.sandboxes import readable_folder, require_sandboxes
from tests.servers.conftest import GatewayDriver, Reply
from tests.servers.gateway.coded import Coded, called, runner_folder, text_of, until
from tests.servers.runner.test_supervisor import descendants

SECRET = "hush-hush-1234567890"
# Speaks what ERA says, with the standard library alone, so that nothing has to be installed.
PROGRAM = """
import hashlib, json, os, sys, threading, time

ERA = "modern"
NAMES = ("echo", "count", "environment", "sleep", "log")
COUNT = 0
LOCK = threading.Lock()


def called(name, given):
    global COUNT
    if name == "count":
        COUNT += 1
        return str(COUNT)
    if name == "environment":
        return hashlib.sha256(os.environ.get(given["name"], "").encode()).hexdigest()
    if name == "sleep":
        time.sleep(given["seconds"])
    if name == "log":
        print("the secret is", os.environ["TOKEN"], file=sys.stderr, flush=True)
        return os.environ["TOKEN"]
    return json.dumps(given, sort_keys=True)


def answer(method, params):
    if method == "server/discover" and ERA == "modern":
        return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}, "resources": {}, "prompts": {}}}
    if method == "initialize" and ERA == "handshake":
        return {"protocolVersion": "2025-11-25", "serverInfo": {"name": "whole", "version": "1"},
                "capabilities": {"tools": {}, "resources": {}, "prompts": {}}}
    if method == "tools/list":
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in NAMES]}
    if method == "resources/list":
        return {"resources": [{"uri": "code://map", "name": "map"}]}
    if method == "resources/templates/list":
        return {"resourceTemplates": [{"uriTemplate": "code://city/{name}", "name": "city"}]}
    if method == "prompts/list":
        return {"prompts": [{"name": "brief", "arguments": [{"name": "topic"}]}]}
    if method == "resources/read":
        return {"contents": [{"uri": params["uri"], "text": "at " + params["uri"]}]}
    if method == "prompts/get":
        text = "About " + params["arguments"]["topic"]
        return {"messages": [{"role": "user", "content": {"type": "text", "text": text}}]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": called(params["name"], params.get("arguments", {}))}]}


def serve(message):
    result = answer(message["method"], message.get("params", {}))
    said = {"error": {"code": -32601, "message": "no such method"}}
    if result is not None:
        said = {"result": {"resultType": "complete", **result} if ERA == "modern" else result}
    with LOCK:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}), flush=True)


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        threading.Thread(target=serve, args=(message,), daemon=True).start()
"""

# It takes its time to start.
START_SECONDS = 2.0
SECOND = PROGRAM.replace("return json.dumps(given, sort_keys=True)", 'return "second"')


class Runner:
    """`mooring runner` on the folder that the gateway of the tests asks."""

    def __init__(self, store: Path, gateway: GatewayDriver) -> None:
        self.folder, self._store, self._gateway = runner_folder(), store, gateway
        self.log = store / "log"

    def start(self, **variables: str) -> None:
        command = [sys.executable, "-m", "mooring.cli.running", "runner", "--folder", str(self.folder)]
        environment = os.environ | {"MOORING_RUNNER_STORE": str(self._store / "store")} | variables
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self._gateway.run(self._answers())
        running.standing(anew=True)

    async def _answers(self) -> None:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(Refused):
                    await self.ask(lambda client: client.instances())
                    return
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.02)

    async def ask(self, question: Callable[[RunnerClient], Any]) -> Any:
        client = RunnerClient(self.folder)
        try:
            return await question(client)
        finally:
            await client.close()

    def asked(self, question: Callable[[RunnerClient], Any]) -> Any:
        return self._gateway.run(self.ask(question))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def servers(self) -> list[int]:
        """Processes of uploaded code, by their numbers on this machine."""
        return [
            number
            for number in descendants(self.process.pid)
            if "/server.py" in _words(number) or "serve" in _words(number).split("\0")
            if "bwrap" not in _words(number).split("\0")[0]
        ]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def _words(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text()
    return ""


@pytest.fixture
def runner(gateway: GatewayDriver) -> Iterator[Runner]:
    require_sandboxes()
    with readable_folder() as store:
        runner = Runner(store, gateway)
        runner.start()
        try:
            yield runner
        finally:
            runner.stop()


@pytest.fixture
def code(world: World, gateway: GatewayDriver, runner: Runner) -> Coded:
    return Coded(world, gateway)


@pytest.fixture
def key(world: World, key_of: Callable[..., str]) -> str:
    return key_of(world.acme)


def publish(code: Coded, era: str = "modern", **settings: Any) -> None:
    code.build(PROGRAM.replace('ERA = "modern"', f'ERA = "{era}"').encode(), "server.py", **settings)
    code.publish()


@pytest.mark.parametrize("era", ["modern", "handshake"])
def test_code_of_any_era_serves_clients_of_any_era(
    code: Coded, gateway: GatewayDriver, key: str, era: str
) -> None:
    publish(code, era)
    session = gateway.session(code.at, "2025-03-26", key=key)
    asked: list[tuple[str, dict[str, Any], Callable[[Any], str], str]] = [
        ("tools/call", {"name": "echo", "arguments": {"a": 1}}, text_of, '{"a": 1}'),
        ("resources/read", {"uri": "code://map"}, content_of, "at code://map"),
        ("resources/read", {"uri": "code://city/bern"}, content_of, "at code://city/bern"),
        ("prompts/get", {"name": "brief", "arguments": {"topic": "x"}}, message_of, "About x"),
    ]
    for method, params, read, expected in asked:
        assert read(gateway.modern(code.at, method, params, key=key).result) == expected
        assert read(session.request(method, params).result) == expected


def content_of(result: Any) -> str:
    return str(result["contents"][0]["text"])


def message_of(result: Any) -> str:
    return str(result["messages"][0]["content"]["text"])


def test_a_start_that_takes_longer_than_calls_may_goes_on_without_them(
    code: Coded, runner: Runner, gateway: GatewayDriver, key: str
) -> None:
    """Six late calls, which five failures of an upstream that runs would not let through."""
    code.build(b"import time\ntime.sleep(2.0)\n" + PROGRAM.encode(), "server.py")
    code.change(make_impatient)
    code.publish()
    at = f"{code.at}@1.0.0"  # what is live would be started as soon as it is looked at
    for _ in range(6):
        late = gateway.call(at, "count", key=key)
        assert "did not answer within 0.2 s" in late["content"][0]["text"]
    gateway.run(until(lambda: len(runner.servers()) >= 1))
    gateway.run(answered(code, gateway, key))


def make_impatient(manifest: dict[str, Any]) -> None:
    for tool in manifest["tools"]:
        tool["remote"]["timeout_seconds"] = 0.2


async def answered(code: Coded, gateway: GatewayDriver, key: str) -> None:
    async with asyncio.timeout(10):
        while (await called(gateway, f"{code.at}@1.0.0", "count", {}, key)).result.get("isError"):
            await asyncio.sleep(0.1)


def test_a_server_whose_room_was_needed_is_woken_by_its_next_call(
    world: World, gateway: GatewayDriver, runner: Runner, key: str
) -> None:
    """With half a GiB in all, one server that may take a whole one is as much as fits."""
    runner.stop()
    runner.start(MOORING_RUNNER_MEMORY="512")
    one, two = Coded(world, gateway, "one"), Coded(world, gateway, "two")
    for each in (one, two):
        publish(each, memory_mb=1024)
    for each in (one, two, one):
        assert text_of(gateway.call(each.at, "count", key=key)) == "1"  # a process of its own each time


def test_a_killed_server_is_told_and_the_next_call_has_a_new_one(
    code: Coded, runner: Runner, gateway: GatewayDriver, key: str
) -> None:
    publish(code)
    assert text_of(gateway.call(code.at, "count", key=key)) == "1"
    result = gateway.run(killed_in_the_middle(code, gateway, key, lambda: kill_all(runner.servers())))
    assert result["isError"]
    assert "ended before it answered" in result["content"][0]["text"]
    assert text_of(gateway.call(code.at, "count", key=key)) == "1"


def test_a_killed_runner_is_told_and_the_next_call_is_answered_by_the_new_one(
    code: Coded, runner: Runner, gateway: GatewayDriver, key: str
) -> None:
    """The new one has another bearer and knows no instance."""
    publish(code)
    assert text_of(gateway.call(code.at, "count", key=key)) == "1"
    result = gateway.run(killed_in_the_middle(code, gateway, key, runner.kill))
    assert result["isError"]
    assert "whether it was carried out is not known" in result["content"][0]["text"]
    gateway.run(until(lambda: not (runner.folder / "runner.sock").exists()))
    away = gateway.call(code.at, "count", key=key)
    assert away["_meta"]["mooring/failure"] == {"code": "runner_away", "retryAfter": 2}
    runner.start()
    assert text_of(gateway.call(code.at, "count", key=key)) == "1"


async def killed_in_the_middle(
    code: Coded, gateway: GatewayDriver, key: str, kill: Callable[[], None]
) -> Any:
    calling = asyncio.create_task(called(gateway, code.at, "sleep", {"seconds": 20}, key))
    client = RunnerClient(runner_folder())
    async with asyncio.timeout(10):
        while not any(info.in_flight for info in await client.instances()):
            await asyncio.sleep(0.02)
    await client.close()
    await asyncio.to_thread(kill)
    return (await asyncio.wait_for(calling, 5)).result


def kill_all(processes: list[int]) -> None:
    assert processes
    for process in processes:
        os.kill(process, signal.SIGKILL)


def test_sessions_share_nothing_where_each_has_its_own_process(
    code: Coded, gateway: GatewayDriver, world: World, key_of: Callable[..., str]
) -> None:
    publish(code, "handshake", mode="session")
    key = key_of(world.acme)
    one, two = (gateway.session(code.at, "2025-11-25", key=key) for _ in range(2))
    count = {"name": "count", "arguments": {}}
    assert [text_of(one.request("tools/call", count).result) for _ in range(3)] == ["1", "2", "3"]
    assert text_of(two.request("tools/call", count).result) == "1"
    assert text_of(gateway.call(code.at, "count", key=key)) == "1"
    assert text_of(gateway.call(code.at, "count", key=key_of(world.acme))) == "1"
    assert text_of(one.request("tools/call", count).result) == "4"


def test_a_session_that_lost_its_process_is_over_and_the_log_says_so(
    code: Coded, runner: Runner, gateway: GatewayDriver, key: str
) -> None:
    publish(code, "handshake", mode="session")
    session = gateway.session(code.at, "2025-11-25", key=key)
    count = {"name": "count", "arguments": {}}
    assert text_of(session.request("tools/call", count).result) == "1"
    assert text_of(gateway.call(code.at, "count", key=key)) == "1"
    kill_all(runner.servers())
    noticed(lambda: session.request("tools/call", count).status == 404, "the death")
    told = gateway.call(code.at, "count", key=key)
    assert "what it held is gone" in told["content"][0]["text"]
    assert text_of(gateway.call(code.at, "count", key=key)) == "1"
    assert session.request("tools/call", count).status == 404
    again = gateway.session(code.at, "2025-11-25", key=key)
    assert text_of(again.request("tools/call", count).result) == "1"
    with tenant_scope(code.world.acme.id):
        assert any(line.text.startswith("The process ended: ") for line in running.lines_of(code.server))
        assert "crashed" in [one.state for one in running.instances_of(code.server)]


def test_secrets_are_inside_and_nowhere_else(
    code: Coded, runner: Runner, gateway: GatewayDriver, key: str
) -> None:
    code.secret("token", SECRET)
    publish(code, environment={"TOKEN": "{secret:token}", "REGION": "eu"})
    for name, value in (("TOKEN", SECRET), ("REGION", "eu"), ("MOORING_SECRET_KEY", "")):
        inside = text_of(gateway.call(code.at, "environment", {"name": name}, key=key))
        assert inside == hashlib.sha256(value.encode()).hexdigest()
    assert SECRET not in str(gateway.call(code.at, "log", key=key))
    (info,) = runner.asked(lambda client: client.instances(str(code.world.acme.id)))
    lines = runner.asked(lambda client: client.logs(info.instance))
    assert any("the secret is" in line.text for line in lines)
    assert SECRET not in str(lines) + runner.log.read_text()
    for process in (runner.process.pid, *descendants(runner.process.pid)):
        assert SECRET not in _words(process)


def test_a_new_version_under_fifty_clients_loses_no_call_and_lets_none_wait_for_its_start(
    code: Coded, gateway: GatewayDriver, key: str
) -> None:
    publish(code)
    code.build(f"import time\ntime.sleep({START_SECONDS})\n{SECOND}".encode(), "server.py")
    has_ended = asyncio.Event()
    replies: list[tuple[Reply, float]] = []

    async def client() -> None:
        while not has_ended.is_set():
            began = time.monotonic()
            reply = await called(gateway, code.at, "echo", {"n": 1}, key)
            replies.append((reply, time.monotonic() - began))
            await asyncio.sleep(1.0)  # or the quota would be met

    async def fifty() -> None:
        await asyncio.gather(*(client() for _ in range(50)))

    calling = asyncio.run_coroutine_threadsafe(fifty(), gateway._loop)
    gateway.run(until(lambda: len(replies) > 40))
    before = len(replies)
    code.publish()
    gateway.run(until(lambda: "second" in str(replies[-1][0].result), 30))
    after = len(replies)
    gateway.run(until(lambda: len(replies) > after + 50, 20))
    gateway._loop.call_soon_threadsafe(has_ended.set)
    calling.result(30)
    assert {reply.status for reply, _ in replies} == {200}
    assert [reply.result for reply, _ in replies if reply.result.get("isError")] == []
    assert max(seconds for _, seconds in replies[before:]) < START_SECONDS
