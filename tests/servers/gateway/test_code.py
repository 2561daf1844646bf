"""Uploaded code through the whole gateway, with a runner without processes: who is started, who waits, who is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from mooring.scope import tenant_scope
from servers import services
from servers.models import Server
from servers.runner.engine import Capabilities
from servers.runner.fake import FakeEngine
from servers.runner.instance import RULES
from servers.runtimes.code import registry
from tenants.models import ApiKey
from tests.coding import offering, tool
from tests.conftest import World
from tests.runners import FakeRunner, running_fake
from tests.servers.conftest import META, MODERN, GatewayDriver, Reply
from tests.servers.gateway.coded import (
    Coded,
    called,
    fake_runner_of_the_gateway,
    runner_folder,
    text_of,
    until,
)

Json = dict[str, Any]
OFFER = offering(
    tool("echo"),
    tool("sleep"),
    resources=({"uri": "code://map", "name": "map"},),
    resource_templates=({"uriTemplate": "code://city/{name}", "name": "city"},),
    prompts=({"name": "brief", "arguments": [{"name": "topic", "required": True}]},),
)


@pytest.fixture
def runner() -> Iterator[FakeRunner]:
    with fake_runner_of_the_gateway() as runner:
        runner.engine.offer = OFFER
        yield runner


@pytest.fixture
def code(world: World, gateway: GatewayDriver, runner: FakeRunner) -> Coded:
    return Coded(world, gateway)


@pytest.fixture
def key(world: World, key_of: Callable[..., str]) -> str:
    return key_of(world.acme)


@pytest.fixture
def live(code: Coded) -> Coded:
    code.build()
    code.publish()
    return code


def meta_of(result: Json) -> Json:
    """What a failed tool says to programs."""
    assert result["isError"], result
    failure: Json = result["_meta"]["mooring/failure"]
    return failure


def named(manifest: Json, name: str) -> Json:
    return next(tool for tool in manifest["tools"] if tool["name"] == name)


def wait(gateway: GatewayDriver, is_true: Callable[[], object]) -> None:
    gateway.run(until(is_true))


def instances(gateway: GatewayDriver, runner: FakeRunner) -> list[Any]:
    return list(gateway.run(runner.engine.instances()))


@pytest.mark.parametrize("era", ["modern", "handshake"])
def test_tools_resources_and_prompts_of_code_of_any_era_serve_clients_of_any_era(
    runner: FakeRunner, code: Coded, gateway: GatewayDriver, key: str, era: str
) -> None:
    runner.engine.offer = msgspec.structs.replace(OFFER, era=era)
    code.build()
    code.publish()
    listed = gateway.modern(code.at, "tools/list", key=key).result["tools"]
    assert sorted(each["name"] for each in listed) == ["echo", "sleep"]
    assert text_of(gateway.call(code.at, "echo", {"a": 1}, key=key)) == '{"a":1}'
    session = gateway.session(code.at, "2025-06-18", key=key)
    answer = session.request("tools/call", {"name": "echo", "arguments": {"b": 2}}).result
    assert text_of(answer) == '{"b":2}'
    for uri in ("code://map", "code://city/bern"):
        read = gateway.modern(code.at, "resources/read", {"uri": uri}, key=key).result
        assert read["contents"] == [{"uri": uri, "text": uri}]
    asked = {"name": "brief", "arguments": {"topic": "x"}}
    for got in (
        gateway.modern(code.at, "prompts/get", asked, key=key).result,
        session.request("prompts/get", asked).result,
    ):
        assert got["messages"][0]["content"]["text"] == "brief"
    assert runner.engine.starts == 1


@pytest.mark.parametrize("era", ["modern", "handshake"])
@pytest.mark.parametrize("mode", ["shared", "session"])
def test_code_is_told_who_calls_and_nobody_can_say_that_they_are_somebody_else(
    runner: FakeRunner, code: Coded, gateway: GatewayDriver, key_of: Callable[..., str], era: str, mode: str
) -> None:
    runner.engine.offer = msgspec.structs.replace(OFFER, era=era)
    code.build(mode=mode)
    code.publish()
    forged = {"mooring/caller": {"kind": "user", "id": "1"}}
    envelope = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    call = {"name": "echo", "arguments": {}}
    told = []
    for secret in (key_of(code.world.acme), key_of(code.world.acme)):
        assert gateway.modern(code.at, "tools/call", call, key=secret, meta=forged | envelope).result
        told.append(runner.engine.servers[code.id].asked["_meta"]["mooring/caller"])
        session = gateway.session(code.at, "2025-06-18", key=secret)
        for method, params in (
            ("tools/call", call),
            ("resources/read", {"uri": "code://map"}),
            ("prompts/get", {"name": "brief", "arguments": {"topic": "x"}}),
        ):
            assert session.request(method, params | {"_meta": forged}).result
            assert runner.engine.servers[code.id].asked["_meta"]["mooring/caller"] == told[-1]
    ids = [each.pop("id") for each in told]
    with tenant_scope(code.world.acme.id):
        keys = ApiKey.objects.order_by("-created_at")[:2]
        assert ids == [each.id.hex for each in reversed(keys)]
    assert told == 2 * [{"kind": "key", "tenant": str(code.world.acme.id), "server": code.id}]


def test_fifty_first_calls_start_one_process_and_all_are_answered(
    runner: FakeRunner, live: Coded, gateway: GatewayDriver, key: str
) -> None:
    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(called(gateway, live.at, "echo", {"n": n}, key) for n in range(50)))

    replies = gateway.run(all_at_once())
    assert [text_of(reply.result) for reply in replies] == [f'{{"n":{n}}}' for n in range(50)]
    assert runner.engine.starts == 1


def test_a_list_of_a_live_server_wakes_its_code_before_the_first_call(
    runner: FakeRunner, live: Coded, gateway: GatewayDriver, key: str
) -> None:
    gateway.modern(live.at, "tools/list", key=key)
    wait(gateway, lambda: live.id in runner.engine.servers)
    text_of(gateway.call(live.at, "echo", key=key))
    assert runner.engine.starts == 1


def test_a_draft_wakes_nothing_until_it_is_called(
    runner: FakeRunner, live: Coded, gateway: GatewayDriver, key_of: Callable[..., str], world: World
) -> None:
    tester = key_of(world.acme, ("servers:call", "servers:test"))
    gateway.modern(f"{live.at}@draft", "tools/list", key=tester)
    assert runner.engine.starts == 0
    assert text_of(gateway.call(f"{live.at}@draft", "echo", {}, key=tester)) == "{}"


def test_code_that_was_evicted_is_woken_by_the_next_call(
    world: World, runner: FakeRunner, gateway: GatewayDriver, key: str
) -> None:
    """The fake runner has room for two of this size, one of them for each organisation."""
    servers = [Coded(world, gateway, f"big-{number}") for number in range(3)]
    for server in servers:
        server.build(memory_mb=1024)
        server.publish()
    for server in servers:
        text_of(gateway.call(server.at, "echo", key=key))
    assert [each.state for each in instances(gateway, runner)] == ["stopped", "stopped", "ready"]
    assert text_of(gateway.call(servers[0].at, "echo", {"a": 1}, key=key)) == '{"a":1}'
    assert runner.engine.starts == 4


def test_a_call_after_a_crash_sits_out_the_short_rest(
    runner: FakeRunner, live: Coded, gateway: GatewayDriver, key: str
) -> None:
    text_of(gateway.call(live.at, "echo", key=key))

    async def killed_in_the_middle() -> Any:
        calling = asyncio.create_task(called(gateway, live.at, "sleep", {"seconds": 20}, key))
        await until(lambda: runner.engine.servers[live.id].in_flight)
        runner.do(lambda engine: engine.servers[live.id].kill("secret reason"))
        return (await calling).result

    result = gateway.run(killed_in_the_middle())
    assert result["isError"]
    assert result["content"][0]["text"] == "The server's code ended before it answered. Its log says why."
    assert text_of(gateway.call(live.at, "echo", {"a": 1}, key=key)) == '{"a":1}'
    assert runner.engine.starts == 2


def test_a_runner_that_was_started_again_is_asked_again(
    live: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str
) -> None:
    text_of(gateway.call(live.at, "echo", key=key))
    artifacts = runner.engine.artifacts
    runner.end()
    wait(gateway, lambda: not (runner.folder / "runner.sock").exists())
    away = gateway.call(live.at, "echo", key=key)
    assert meta_of(away) == {"code": "runner_away", "retryAfter": 2}
    with running_fake(runner_folder()) as other:
        other.engine.artifacts = artifacts
        assert text_of(gateway.call(live.at, "echo", {"a": 1}, key=key)) == '{"a":1}'
        assert other.engine.starts == 1


def test_a_runner_that_goes_away_during_a_call_is_told_and_nothing_is_repeated(
    live: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str
) -> None:
    text_of(gateway.call(live.at, "echo", key=key))

    async def cut_off() -> Any:
        calling = asyncio.create_task(called(gateway, live.at, "sleep", {"seconds": 20}, key))
        await until(lambda: runner.engine.servers[live.id].in_flight)
        runner.end()
        return (await calling).result

    result = gateway.run(cut_off())
    assert result["isError"]
    told = result["content"][0]["text"]
    assert told.startswith(("The runner of the server's code went away", "The server's code ended"))
    assert runner.engine.starts == 1


# ---- refusals --------------------------------------------------------------------------------------------


def unsafe(engine: FakeEngine, server: str) -> None:
    engine.capabilities = Capabilities(engine="fake", missing=("secret shortcoming",))


def unbuilt(engine: FakeEngine, server: str) -> None:
    engine.artifacts.clear()


def crashing(engine: FakeEngine, server: str) -> None:
    engine.failures[server] = 100


REFUSALS: dict[str, tuple[Callable[[FakeEngine, str], None], int, str]] = {
    "code_unsafe": (unsafe, 503, "server"),
    "code_missing": (unbuilt, 503, "server"),
    "code_crashed": (crashing, 502, "external"),
}


@pytest.mark.parametrize("failure", REFUSALS)
def test_what_the_runner_refuses_is_said_with_a_code_and_without_its_reasons(
    code: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str, failure: str
) -> None:
    """By its number, since the code of what is live is woken as soon as that is looked at."""
    break_it, status, kind = REFUSALS[failure]
    code.build()
    code.publish()
    at = f"{code.at}@1.0.0"
    runner.do(lambda engine: break_it(engine, code.id))
    refused = gateway.modern(at, "resources/read", {"uri": "code://map"}, key=key)
    data = refused.error["data"]
    assert (refused.status, data["code"], data["class"]) == (status, failure, kind)
    result = gateway.call(at, "echo", key=key)
    assert result["isError"]
    for said in (refused.body.decode(), str(result)):
        assert "shortcoming" not in said
        assert "told to fail" not in said


def test_code_that_crashes_again_and_again_is_broken_until_a_new_version(
    world: World, gateway: GatewayDriver, key: str
) -> None:
    with fake_runner_of_the_gateway(replace(RULES, first_rest=0.01)) as runner:
        runner.engine.offer = OFFER
        code = Coded(world, gateway)
        code.build()
        code.publish()
        runner.do(lambda engine: engine.failures.update({code.id: 100}))
        replies = [gateway.call(code.at, "echo", key=key) for _ in range(6)]
        said = replies[-1]["content"][0]["text"]
        assert said.startswith("The server's code has crashed again and again")
        refused = gateway.modern(code.at, "resources/read", {"uri": "code://map"}, key=key)
        assert (refused.status, refused.error["data"]["code"]) == (503, "code_broken")
        assert refused.error["data"]["class"] == "server"
        runner.do(lambda engine: engine.failures.clear())
        code.build(b"# mended\n")
        code.publish()
        assert text_of(gateway.call(code.at, "echo", {"a": 1}, key=key)) == '{"a":1}'


def test_without_a_runner_a_resource_is_refused_with_when_to_try_again(
    live: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str
) -> None:
    runner.end()
    wait(gateway, lambda: not (runner.folder / "runner.sock").exists())
    refused = gateway.modern(live.at, "resources/read", {"uri": "code://map"}, key=key)
    assert (refused.status, refused.headers["retry-after"]) == (503, "2")
    data = refused.error["data"]
    assert (data["code"], data["class"], data["retryAfter"]) == ("runner_away", "server", 2)


# ---- sessions --------------------------------------------------------------------------------------------


COUNT = {"name": "echo", "arguments": {}}


@pytest.fixture
def apart(code: Coded, runner: FakeRunner) -> Coded:
    """Live, with a process for each session."""
    runner.engine.offer = msgspec.structs.replace(OFFER, mode="session")
    code.build()
    code.publish()
    return code


def stop_all(gateway: GatewayDriver, runner: FakeRunner) -> None:
    """As an operator does."""

    def stop(engine: FakeEngine) -> None:
        for each in instances_now(runner):
            ending.append(asyncio.ensure_future(engine.stop(each.instance)))

    ending: list[asyncio.Future[None]] = []
    runner.do(stop)
    wait(gateway, lambda: ending and not instances_now(runner))


def test_a_client_whose_process_is_gone_gets_404_and_goes_on_with_a_new_session(
    apart: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str
) -> None:
    session = gateway.session(apart.at, "2025-11-25", key=key)
    text_of(session.request("tools/call", COUNT).result)
    runner.do(lambda engine: engine.servers[apart.id].kill("secret reason"))
    wait(gateway, lambda: [each.state for each in instances_now(runner)] == ["crashed"])
    for method, params in (
        ("tools/call", COUNT),
        ("resources/read", {"uri": "code://map"}),
        ("prompts/get", {"name": "brief", "arguments": {"topic": "x"}}),
        ("tools/call", COUNT),
    ):
        gone = session.request(method, params)
        assert (gone.status, gone.error["code"]) == (404, 404)
        assert "Send initialize again" in gone.error["message"]
        assert "secret reason" not in gone.body.decode()
    assert runner.engine.starts == 1
    again = gateway.session(apart.at, "2025-11-25", key=key)
    text_of(again.request("tools/call", COUNT).result)


def instances_now(runner: FakeRunner) -> list[Any]:
    return runner.engine._instances.infos()


def test_a_caller_without_a_session_is_told_once_that_what_was_kept_is_gone(
    apart: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str
) -> None:
    text_of(gateway.call(apart.at, "echo", key=key))
    stop_all(gateway, runner)
    told = gateway.call(apart.at, "echo", key=key)
    assert told["isError"]
    assert "what it held is gone" in told["content"][0]["text"]
    text_of(gateway.call(apart.at, "echo", key=key))
    stop_all(gateway, runner)
    refused = gateway.modern(apart.at, "resources/read", {"uri": "code://map"}, key=key)
    assert (refused.status, refused.error["data"]["code"]) == (502, "code_session_ended")


def test_a_new_version_ends_the_sessions_of_the_old_one(
    apart: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str
) -> None:
    session = gateway.session(apart.at, "2025-06-18", key=key)
    idle = gateway.session(apart.at, "2025-06-18", key=key)
    text_of(session.request("tools/call", COUNT).result)
    apart.build(b"# the second\n")
    apart.publish()
    assert session.request("tools/call", COUNT).status == 404
    text_of(idle.request("tools/call", COUNT).result)
    wait(gateway, lambda: len(instances_now(runner)) == 1)


def test_a_runner_that_was_started_again_has_none_of_the_sessions(
    apart: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str
) -> None:
    session = gateway.session(apart.at, "2025-11-25", key=key)
    text_of(session.request("tools/call", COUNT).result)
    text_of(gateway.call(apart.at, "echo", key=key))
    artifacts = runner.engine.artifacts
    runner.end()
    wait(gateway, lambda: not (runner.folder / "runner.sock").exists())
    with running_fake(runner_folder()) as other:
        other.engine.artifacts = artifacts
        assert session.request("tools/call", COUNT).status == 404
        assert gateway.call(apart.at, "echo", key=key)["isError"]
        text_of(gateway.call(apart.at, "echo", key=key))


def test_strangers_share_no_process_and_without_a_session_they_have_none(
    apart: Coded, runner: FakeRunner, gateway: GatewayDriver, world: World
) -> None:
    with tenant_scope(world.acme.id):
        services.update_server(apart.server, actor=world.actor, is_public=True)
    gateway.settle()
    for _ in range(2):
        text_of(gateway.session(apart.at, "2025-11-25").request("tools/call", COUNT).result)
    assert runner.engine.starts == 2
    result = gateway.call(apart.at, "echo")
    assert result["isError"]
    assert "Call with a key" in result["content"][0]["text"]
    refused = gateway.modern(apart.at, "resources/read", {"uri": "code://map"})
    assert (refused.status, refused.error["data"]["code"]) == (400, "code_needs_session")
    assert refused.error["data"]["class"] == "client"
    assert runner.engine.starts == 2


def test_what_is_remembered_of_a_session_is_for_that_session(
    apart: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str
) -> None:
    remembered = {"annotations": {"readOnlyHint": True}, "cache": {"seconds": 60}}
    apart.change(lambda manifest: named(manifest, "echo").update(remembered))
    apart.publish()
    one, two = (gateway.session(apart.at, "2025-11-25", key=key) for _ in range(2))
    for session in (one, one, two):
        text_of(session.request("tools/call", COUNT).result)
    assert runner.engine.starts == 2


def test_where_processes_are_not_shared_each_session_and_each_caller_without_one_has_its_own(
    code: Coded, runner: FakeRunner, gateway: GatewayDriver, world: World, key_of: Callable[..., str]
) -> None:
    runner.engine.offer = msgspec.structs.replace(OFFER, mode="session")
    code.build()
    code.publish()
    one, two = key_of(world.acme), key_of(world.acme)
    sessions = [gateway.session(code.at, "2025-11-25", key=one) for _ in range(2)]
    for session in (*sessions, *sessions):
        text_of(session.request("tools/call", {"name": "echo", "arguments": {}}).result)
    assert runner.engine.starts == 2
    for key in (one, two, one, two):
        text_of(gateway.call(code.at, "echo", key=key))
    names = [each.session for each in instances(gateway, runner)]
    assert runner.engine.starts == len(set(names)) == 4
    assert "" not in names
    assert not any(session.token[:16] in name for session in sessions for name in names)


# ---- versions --------------------------------------------------------------------------------------------


def test_a_new_version_under_fifty_clients_loses_no_call_and_the_old_process_is_ended_afterwards(
    live: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "SILENT_SECONDS", 0.0)
    has_ended = asyncio.Event()
    replies: list[Reply] = []

    async def client(number: int) -> None:
        while not has_ended.is_set():
            replies.append(await called(gateway, live.at, "echo", {"n": number}, key))
            await asyncio.sleep(0.2)  # or the quota would be met

    async def fifty() -> None:
        await asyncio.gather(*(client(number) for number in range(50)))

    calling = asyncio.run_coroutine_threadsafe(fifty(), gateway._loop)
    wait(gateway, lambda: runner.engine.starts == 1)
    second = live.build(b"# the second\n")
    live.publish()
    wait(gateway, lambda: runner.engine.starts == 2)
    before = len(replies)
    wait(gateway, lambda: len(replies) > before + 150)
    gateway._loop.call_soon_threadsafe(has_ended.set)
    calling.result(30)
    assert {reply.status for reply in replies} == {200}
    assert [reply.result for reply in replies if reply.result.get("isError")] == []
    end_unused(gateway)
    ready = [each.digest for each in instances(gateway, runner) if each.state == "ready"]
    assert ready == [second.artifact]


@pytest.fixture
def shut(gateway: GatewayDriver, runner: FakeRunner) -> Callable[[], None]:
    """From then on nothing comes up until `runner.engine.start_gate` is set."""

    def shut() -> None:
        runner.do(lambda engine: engine.start_gate.clear())
        wait(gateway, lambda: not runner.engine.start_gate.is_set())

    return shut


def second_version(live: Coded, runner: FakeRunner) -> None:
    """It has a tool that the first has not."""
    runner.engine.offer = offering(tool("echo"), tool("news"))
    live.build(b"# the second\n")
    live.publish()


def names_listed(gateway: GatewayDriver, at: str, key: str) -> set[str]:
    return {each["name"] for each in gateway.modern(at, "tools/list", key=key).result["tools"]}


def test_nobody_waits_for_the_start_of_a_new_version_and_no_call_fails(
    live: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str, shut: Callable[[], None]
) -> None:
    """Clients call without a pause; not one of them would be answered if it had to wait for the second process."""
    text_of(gateway.call(live.at, "echo", key=key))
    shut()
    second_version(live, runner)
    has_ended = asyncio.Event()
    replies: list[Reply] = []

    async def client(number: int) -> None:
        while not has_ended.is_set():
            replies.append(await called(gateway, live.at, "echo", {"n": number}, key))
            await asyncio.sleep(0.02)

    async def ten() -> None:
        await asyncio.gather(*(client(number) for number in range(10)))

    calling = asyncio.run_coroutine_threadsafe(ten(), gateway._loop)
    wait(gateway, lambda: runner.engine.starts == 2 and len(replies) > 100)
    assert names_listed(gateway, live.at, key) == {"echo", "sleep"}
    runner.do(lambda engine: engine.start_gate.set())
    wait(gateway, lambda: "news" in names_listed_now(gateway, live))
    before = len(replies)
    wait(gateway, lambda: len(replies) > before + 20)
    gateway._loop.call_soon_threadsafe(has_ended.set)
    calling.result(30)
    assert {reply.status for reply in replies} == {200}
    assert [reply.result for reply in replies if reply.result.get("isError")] == []
    assert runner.engine.starts == 2
    assert text_of(gateway.call(live.at, "news", key=key)) == "{}"


def names_listed_now(gateway: GatewayDriver, live: Coded) -> set[str]:
    """What is kept in the gateway's memory, for use on its own loop."""
    endpoint = gateway.app.plane.directory.endpoints.peek(tuple(live.at.split("/")))
    kept = endpoint and endpoint.snapshots.peek("live")
    return set(kept.tools) if kept else set()


def test_a_switch_takes_effect_at_once_although_a_new_version_is_still_starting(
    live: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str, shut: Callable[[], None]
) -> None:
    text_of(gateway.call(live.at, "echo", key=key))
    shut()
    second_version(live, runner)
    assert text_of(gateway.call(live.at, "echo", key=key)) == "{}"
    with tenant_scope(live.world.acme.id):
        services.set_override(live.server, actor=live.world.actor, kind="disable", tool="echo")
    gateway.settle()
    assert "switched off" in gateway.call(live.at, "echo", key=key)["content"][0]["text"]
    runner.do(lambda engine: engine.start_gate.set())


def test_a_new_version_that_does_not_come_up_says_so_and_going_back_costs_no_start(
    live: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str, shut: Callable[[], None]
) -> None:
    text_of(gateway.call(live.at, "echo", key=key))
    shut()
    second_version(live, runner)
    assert text_of(gateway.call(live.at, "echo", key=key)) == "{}"
    runner.do(lambda engine: engine.failures.update({live.id: 100}))
    runner.do(lambda engine: engine.start_gate.set())
    wait(gateway, lambda: "news" in names_listed_now(gateway, live))
    told = gateway.call(live.at, "echo", key=key)
    assert told["isError"]
    assert told["content"][0]["text"] == "The server's code ended before it answered. Its log says why."
    with tenant_scope(live.world.acme.id):
        first = live.server.versions.get(number="1.0.0")
        services.rollback(live.server, first, actor=live.world.actor)
    gateway.settle()
    starts = runner.engine.starts
    assert text_of(gateway.call(live.at, "echo", {"a": 1}, key=key)) == '{"a":1}'
    assert runner.engine.starts == starts


def test_a_start_that_takes_too_long_is_waited_for_by_those_who_call_then(
    live: Coded,
    runner: FakeRunner,
    gateway: GatewayDriver,
    key: str,
    shut: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gateway.app.plane.directory.successions, "seconds", 0.2)
    text_of(gateway.call(live.at, "echo", key=key))
    shut()
    second_version(live, runner)
    names_listed(gateway, live.at, key)  # whichever; it has the new one begin
    wait(gateway, lambda: "news" in names_listed_now(gateway, live))

    async def called_then_started() -> Reply:
        calling = asyncio.create_task(called(gateway, live.at, "news", {}, key))
        await asyncio.sleep(0)  # it is under way
        runner.do(lambda engine: engine.start_gate.set())
        return await calling

    assert text_of(gateway.run(called_then_started()).result) == "{}"


def test_a_composition_goes_on_with_what_its_member_was_until_the_new_one_answers(
    live: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str, shut: Callable[[], None]
) -> None:
    world = live.world
    with tenant_scope(world.acme.id):
        whole = services.create_server(world.acme, slug="whole", title="Whole", actor=world.actor)
        services.update_server(whole, actor=world.actor, members=[{"server": "coded", "prefix": "my_"}])
        services.publish(whole, actor=world.actor)
    gateway.settle()
    at = f"{world.acme.slug}/whole"
    assert text_of(gateway.call(at, "my_echo", key=key)) == "{}"
    shut()
    second_version(live, runner)
    assert names_listed(gateway, at, key) == {"my_echo", "my_sleep"}
    assert text_of(gateway.call(at, "my_echo", key=key)) == "{}"
    runner.do(lambda engine: engine.start_gate.set())

    async def is_new() -> None:
        endpoint = gateway.app.plane.directory.endpoints.peek((world.acme.slug, "whole"))
        await until(lambda: "my_news" in endpoint.snapshots.peek("live").tools)

    gateway.run(is_new())


def end_unused(gateway: GatewayDriver) -> None:
    """What the gateway does each minute."""

    async def tidy() -> None:
        runtimes = gateway.app.plane.directory._runtimes
        await runtimes.close_idle()

    gateway.run(tidy())


def test_what_another_process_still_calls_is_not_ended(
    live: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str
) -> None:
    """A call was here a moment ago, and it could have been anybody's."""
    text_of(gateway.call(live.at, "echo", key=key))
    live.build(b"# the second\n")
    live.publish()
    text_of(gateway.call(live.at, "echo", key=key))
    end_unused(gateway)
    assert [each.state for each in instances(gateway, runner)] == ["ready", "ready"]


# ---- what surrounds a part -------------------------------------------------------------------------------


def test_code_is_called_through_a_composition_with_switches_and_remembered_answers(
    live: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str, world: World
) -> None:
    remembered = {"annotations": {"readOnlyHint": True}, "cache": {"seconds": 60}}
    live.change(lambda manifest: named(manifest, "echo").update(remembered))
    live.publish()
    with tenant_scope(world.acme.id):
        desk = services.create_server(world.acme, slug="desk", title="Desk", actor=world.actor)
        manifest = {
            "mooring": 1,
            "server": {"title": "Desk"},
            "members": [{"server": "coded", "prefix": "my_"}],
        }
        services.replace_draft(desk, manifest, actor=world.actor)
        services.publish(desk, actor=world.actor)
    gateway.settle()
    at = f"{world.acme.slug}/desk"
    assert text_of(gateway.call(at, "my_echo", {"a": 1}, key=key)) == '{"a":1}'
    runner.do(lambda engine: engine.artifacts.clear())
    runner.do(lambda engine: engine.servers[live.id].kill("it is not needed any more"))
    assert text_of(gateway.call(live.at, "echo", {"a": 1}, key=key)) == '{"a":1}'
    assert gateway.call(live.at, "echo", {"a": 2}, key=key)["isError"]
    with tenant_scope(world.acme.id):
        services.set_override(Server.objects.get(id=live.id), actor=world.actor, kind="disable", tool="echo")
    gateway.settle()
    assert "switched off" in gateway.call(at, "my_echo", {"a": 1}, key=key)["content"][0]["text"]


def test_secrets_of_the_environment_are_given_as_such_and_hidden_in_answers(
    code: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str
) -> None:
    code.secret("token", "hush-hush-12345")
    environment = {"TOKEN": "Bearer {secret:token}", "REGION": "eu"}
    code.build(environment=environment, hosts=["api.example.com"], memory_mb=512)
    code.publish()
    answer = text_of(gateway.call(code.at, "echo", {"said": "hush-hush-12345"}, key=key))
    assert "hush-hush" not in answer
    spec = runner.engine.servers[code.id].spec
    assert (spec.variables, spec.secrets) == ({"REGION": "eu"}, {"TOKEN": "Bearer hush-hush-12345"})
    assert (spec.hosts, spec.limits.memory) == (("api.example.com",), 512 * 2**20)
    assert (spec.tenant, spec.artifact) == (str(code.world.acme.id), "")


def test_code_without_a_value_that_it_needs_says_which(
    code: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str
) -> None:
    code.secret("token", "hush-hush-12345")
    code.build(environment={"TOKEN": "{secret:token}"})
    code.publish()
    with tenant_scope(code.world.acme.id):
        services.delete_secret(code.server, actor=code.world.actor, name="token")
    gateway.settle()
    result = gateway.call(code.at, "echo", key=key)
    assert result["isError"]
    assert "needs the secret token" in result["content"][0]["text"]


def test_a_slow_part_gives_the_process_as_much_time(
    code: Coded, runner: FakeRunner, gateway: GatewayDriver, key: str
) -> None:
    code.build()
    code.change(lambda manifest: named(manifest, "sleep")["remote"].update(timeout_seconds=120))
    code.publish()
    text_of(gateway.call(code.at, "sleep", {"seconds": 0}, key=key))
    assert runner.engine.servers[code.id].spec.limits.call == 120
