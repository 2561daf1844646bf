"""The client with the official SDK's servers of every era."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from servers.protocol.errors import ProtocolError
from servers.runtimes.remote.asking import Era
from servers.runtimes.remote.client import RemoteClient
from servers.runtimes.remote.definitions import digest_of
from servers.runtimes.remote.endpoint import Endpoint, Identity
from servers.runtimes.remote.failures import CallFailed
from tests.servers.runtimes.remote.sdk import serving

if TYPE_CHECKING:
    from servers.runtimes.upstreams import Upstreams

KINDS = {
    "modern": Era.MODERN,
    "modern-json": Era.MODERN,
    "handshake": Era.HANDSHAKE,
    "handshake-json": Era.HANDSHAKE,
    "stateless-json": Era.HANDSHAKE,
    "stateless": Era.HANDSHAKE,
    "stream": Era.STREAM,
}


@pytest.fixture(params=list(KINDS))
async def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client(kind: str, upstreams: Upstreams) -> AsyncIterator[RemoteClient]:
    async with serving(kind) as url:
        made = RemoteClient(Endpoint(url), upstreams.get("acme", url))
        yield made
        await made.close()
        await made.upstream.close()


def bounds() -> dict[str, Any]:
    return {"deadline": asyncio.get_running_loop().time() + 10, "limit": 1_000_000}


async def test_everything_that_can_be_asked_is_answered(client: RemoteClient, kind: str) -> None:
    about = await client.about(deadline=bounds()["deadline"])
    assert (about.era, about.name, about.instructions) == (KINDS[kind], "official", "Ask for a text.")
    outcome = await client.call_tool("echo", {"text": "héllo"}, **bounds())
    assert outcome.structured == {"text": "héllo"}
    assert not outcome.is_error
    outcome = await client.call_tool("chatty", {"steps": 20}, **bounds())
    assert outcome.content[0]["text"] == "done"
    outcome = await client.call_tool("fails", {}, **bounds())
    assert (outcome.is_error, outcome.failure) == (True, "")
    reading = await client.read_resource("notes://today", **bounds())
    assert reading.contents[0]["text"] == "sunny"
    reading = await client.read_resource("notes://mine", **bounds())
    assert reading.contents[0]["text"] == "note mine"
    prompt = await client.get_prompt("greet", {"name": "Ada"}, **bounds())
    assert prompt.messages[0]["content"]["text"] == "Hello, Ada"
    assert (await client.probe()).state == "healthy"


async def test_lists_come_whole(client: RemoteClient, kind: str) -> None:
    deadline = bounds()["deadline"]
    tools = await client.list_all("tools", deadline=deadline)
    assert [tool["name"] for tool in tools.definitions] == [
        "echo",
        "chatty",
        "talks",
        "slow",
        "what_happened",
        "hangs_up",
        "fails",
    ]
    assert (tools.problems, tools.cut) == ((), "")
    resources = await client.list_all("resources", deadline=deadline)
    assert [resource["uri"] for resource in resources.definitions] == ["notes://today"]
    templates = await client.list_all("resourceTemplates", deadline=deadline)
    assert [template["uriTemplate"] for template in templates.definitions] == ["notes://{name}"]
    prompts = await client.list_all("prompts", deadline=deadline)
    assert [prompt["name"] for prompt in prompts.definitions] == ["greet"]
    again = await client.list_all("tools", deadline=deadline)
    assert [digest_of(one) for one in again.definitions] == [digest_of(one) for one in tools.definitions]


async def test_mistakes_are_answered_as_such(client: RemoteClient, kind: str) -> None:
    with pytest.raises(CallFailed) as missing:
        await client.read_resource("nothing://here", **bounds())
    assert missing.value.failure == "upstream_error"
    with pytest.raises(CallFailed):
        await client.get_prompt("nobody", {}, **bounds())
    # The SDK's own choice in either era: an error that is a result, or one of the protocol.
    with suppress(ProtocolError):
        assert (await client.call_tool("no_such_tool", {}, **bounds())).is_error
    assert client.upstream.health().state == "healthy"


# Without a session there is nothing to tell which call is meant; and answering JSON, the SDK does not look.
@pytest.mark.parametrize("kind", ["modern", "handshake", "handshake-json", "stream"], indirect=True)
async def test_a_cancelled_call_is_cancelled_there_too(client: RemoteClient, kind: str) -> None:
    task = asyncio.create_task(client.call_tool("slow", {}, **bounds()))

    async def happened() -> Any:
        outcome = await client.call_tool("what_happened", {}, **bounds())
        return outcome.structured

    async with asyncio.timeout(10):
        while "began" not in str(await happened()):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while "ended" not in str(await happened()):
            await asyncio.sleep(0.01)


async def test_identities_have_sessions_of_their_own(client: RemoteClient, kind: str) -> None:
    for scope in ("alice", "bob", "alice"):
        outcome = await client.call_tool("echo", {"text": scope}, identity=Identity(scope), **bounds())
        assert outcome.structured == {"text": scope}
    assert client.sessions_opened == (0 if KINDS[kind] is Era.MODERN else 2)


async def test_many_callers_share_what_there_is(client: RemoteClient, kind: str) -> None:
    outcomes = await asyncio.gather(
        *[client.call_tool("echo", {"text": str(number)}, **bounds()) for number in range(100)]
    )
    assert [outcome.structured for outcome in outcomes] == [{"text": str(number)} for number in range(100)]
    assert client.sessions_opened <= 1


async def test_an_upstream_that_hangs_up_on_purpose_is_asked_for_the_rest(upstreams: Upstreams) -> None:
    async with serving("handshake") as url:
        client = RemoteClient(Endpoint(url), upstreams.get("acme", url))
        outcome = await client.call_tool("hangs_up", {}, **bounds())
        assert outcome.content[0]["text"] == "after hanging up"
        await client.close()
        await client.upstream.close()
