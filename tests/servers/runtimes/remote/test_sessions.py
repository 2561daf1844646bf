"""Sessions at upstreams of the handshake eras: shared, bounded, made again, and ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from servers.runtimes.remote.client import RemoteClient
from servers.runtimes.remote.endpoint import Endpoint, Identity
from tests.servers.runtimes.remote.peers import (
    Peer,
    error,
    handshake,
    never,
    result,
    stream,
    text,
    until_ended,
)

if TYPE_CHECKING:
    from servers.runtimes.upstreams import Upstreams
    from tests.servers.runtimes.remote.conftest import Caller

Json = dict[str, Any]
ERAS = {"handshake": handshake(), "stream": stream}
both_eras = pytest.mark.parametrize("era", list(ERAS))


@both_eras
async def test_all_calls_of_one_identity_share_a_session(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    for round_ in range(5):
        outcomes = await asyncio.gather(*[call(f"{round_}.{number}") for number in range(20)])
        assert [outcome.content[0]["text"] for outcome in outcomes] == [
            f"{round_}.{number}" for number in range(20)
        ]
    assert peer.opened == call.client.sessions_opened == 1
    ids = [sent.message["id"] for sent in peer.said("tools/call")]
    assert len(set(ids)) == 100


@both_eras
async def test_identities_never_share_a_session(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    identities = [
        Identity("alice"),
        Identity("bob"),
        Identity("alice", (("Authorization", "Bearer a"),)),
        Identity("alice", capabilities=b'{"sampling":{}}'),
    ]
    for identity in identities * 3:
        await call(identity=identity)
    assert peer.opened == 4
    opening = [sent for sent in peer.said("initialize") if era == "handshake" or sent.path == "/messages"]
    offered = [sent.message["params"]["capabilities"] for sent in opening]
    assert offered == [{}, {}, {}, {"sampling": {}}]


@pytest.mark.parametrize("revision", ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"])
async def test_the_revision_agreed_on_is_repeated_where_that_is_asked(
    call: Caller, peer: Peer, revision: str
) -> None:
    peer.serve = handshake(revision)
    await call()
    expected = revision if revision >= "2025-06-18" else None
    for said in ("tools/call", "notifications/initialized"):
        assert peer.said(said)[0].headers.get("MCP-Protocol-Version") == expected
    assert peer.said("initialize")[0].message["params"]["protocolVersion"] == "2025-11-25"
    assert (await call.client.about(deadline=call.deadline)).revision == revision


async def test_an_upstream_that_names_what_it_speaks_is_asked_again(call: Caller, peer: Peer) -> None:
    agreed = handshake("2025-03-26")

    async def choosy(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        if message["params"]["protocolVersion"] != "2025-03-26":
            return web.json_response(error(message, -32602, "no", {"supported": ["2025-03-26"]}), status=400)
        return await agreed(peer, request, message)

    peer.serve = agreed
    peer.instead["initialize"] = choosy
    assert not (await call()).is_error
    assert len(peer.said("initialize")) == 2


async def test_an_unknown_revision_and_an_unusable_session_id_are_refused(call: Caller, peer: Peer) -> None:
    peer.serve = handshake("2029-01-01")
    outcome = await call()
    assert outcome.failure == "upstream_invalid"
    assert "2029-01-01" in outcome.content[0]["text"]
    good = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}}
    peer.answers("initialize", 200, result({"id": 1}, good), Mcp_Session_Id="x" * 3_000)
    assert (await call()).failure == "upstream_invalid"


async def test_a_server_without_sessions_needs_none(call: Caller, peer: Peer) -> None:
    peer.serve = handshake(has_session=False)
    for _ in range(3):
        assert not (await call()).is_error
    assert peer.opened == 1
    assert "Mcp-Session-Id" not in peer.last.headers
    await call.client.close()
    assert not peer.said("DELETE")


async def test_a_refused_notice_of_beginning_is_no_end(call: Caller, peer: Peer) -> None:
    peer.serve = handshake()
    peer.answers("notifications/initialized", 405)
    assert not (await call()).is_error


# ---- lost and made again ---------------------------------------------------------------------------------


@both_eras
async def test_a_lost_session_is_made_again_and_the_call_answered(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    await call()
    peer.sessions.clear()
    assert (await call("again")).content[0]["text"] == "again"
    assert peer.opened == 2
    assert len(peer.said("server/discover")) == 1


async def test_a_lost_session_that_is_told_with_400_is_made_again(call: Caller, peer: Peer) -> None:
    serve = handshake()

    async def forgetful(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        if message["method"] != "initialize" and request.headers.get("Mcp-Session-Id") not in peer.sessions:
            return web.json_response(
                error({}, -32000, "Bad Request: No valid session ID provided"), status=400
            )
        return await serve(peer, request, message)

    peer.serve = forgetful
    await call()
    peer.sessions.clear()
    assert (await call("again")).content[0]["text"] == "again"
    assert peer.opened == 2


async def test_all_who_lost_it_share_the_new_one(call: Caller, peer: Peer) -> None:
    peer.serve = handshake()
    await call()
    peer.sessions.clear()
    outcomes = await asyncio.gather(*[call(str(number)) for number in range(30)])
    assert not any(outcome.is_error for outcome in outcomes)
    assert peer.opened == 2


@both_eras
async def test_a_session_that_is_always_lost_is_made_again_once_a_call(
    call: Caller, peer: Peer, era: str
) -> None:
    peer.serve = ERAS[era]
    await call()
    peer.answers("tools/call", 404, "gone")
    outcome = await call()
    assert outcome.failure == "upstream_session_lost"
    assert len(peer.said("tools/call")) == 3
    assert peer.opened == 2 if era == "handshake" else 3


async def test_an_unknown_method_with_404_is_an_answer_and_no_lost_session(call: Caller, peer: Peer) -> None:
    peer.serve = handshake()

    async def unknown(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        return web.json_response(error(message, -32601), status=404)

    await call()
    peer.instead["tools/call"] = unknown
    assert (await call()).failure == "upstream_error"
    assert peer.opened == 1


async def test_refused_arguments_with_400_cost_no_session(call: Caller, peer: Peer) -> None:
    peer.serve = handshake()

    async def unfit(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        return web.json_response(error(message, -32000, "the session_id argument is wrong"), status=400)

    await call()
    peer.instead["tools/call"] = unfit
    for _ in range(3):
        assert (await call()).failure == "upstream_error"
    assert peer.opened == 1
    assert len(peer.said("tools/call")) == 4


async def test_a_caller_who_leaves_while_it_opens_does_not_end_it_for_others(
    call: Caller, peer: Peer
) -> None:
    serve = handshake()
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        asked.set()
        await go_on.wait()
        return await serve(peer, request, message)

    peer.serve = serve
    await call(identity=Identity("first"))
    peer.instead["initialize"] = slow
    callers = [asyncio.create_task(call(str(number))) for number in range(3)]
    await asked.wait()
    callers[0].cancel()
    go_on.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes[1:])
    assert peer.opened == 2


# ---- bounded and ended -----------------------------------------------------------------------------------


def client_of(peer: Peer, upstreams: Upstreams, sessions: int) -> RemoteClient:
    return RemoteClient(Endpoint(peer.url), upstreams.get("acme", peer.url), sessions=sessions)


@both_eras
async def test_no_more_sessions_are_open_than_allowed(peer: Peer, upstreams: Upstreams, era: str) -> None:
    peer.serve = ERAS[era]
    client = client_of(peer, upstreams, 3)
    deadline = asyncio.get_running_loop().time() + 20

    async def one(number: int) -> bool:
        outcome = await client.call_tool(
            "echo", {}, deadline=deadline, limit=1_000, identity=Identity(str(number))
        )
        assert client.sessions_open <= 3
        return outcome.is_error

    assert not any(await asyncio.gather(*[one(number) for number in range(25)]))
    await until_ended(peer, 3)
    await client.close()
    await until_ended(peer, 0)
    assert peer.opened >= 25


async def test_waiting_for_a_session_ends_with_the_deadline(peer: Peer, upstreams: Upstreams) -> None:
    peer.serve = handshake()
    client = client_of(peer, upstreams, 1)
    loop = asyncio.get_running_loop()
    started = asyncio.Event()

    async def hang(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        started.set()
        return await never(peer, request, message)

    await client.call_tool("echo", {}, deadline=loop.time() + 5, limit=1_000, identity=Identity("a"))
    peer.instead["tools/call"] = hang
    first = asyncio.create_task(
        client.call_tool("echo", {}, deadline=loop.time() + 5, limit=1_000, identity=Identity("a"))
    )
    await started.wait()
    second = await client.call_tool(
        "echo", {}, deadline=loop.time() + 0.05, limit=1_000, identity=Identity("b")
    )
    assert second.failure == "upstream_timeout"
    third = asyncio.create_task(
        client.call_tool("echo", {}, deadline=loop.time() + 5, limit=1_000, identity=Identity("c"))
    )
    await asyncio.sleep(0)
    del peer.instead["tools/call"]
    first.cancel()
    assert not (await third).is_error
    await client.close()


@both_eras
async def test_idle_sessions_are_ended_at_the_upstream_too(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    await call()
    await call.client.close_idle(60)
    assert len(peer.sessions) == 1
    await call.client.close_idle(0)
    await until_ended(peer, 0)
    assert call.client.sessions_open == 0
    assert len(peer.said("DELETE")) == (era == "handshake")
    assert not (await call()).is_error


async def test_a_session_in_use_is_not_idle(call: Caller, peer: Peer) -> None:
    peer.serve = handshake()
    await call()
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        started.set()
        await go_on.wait()
        return web.json_response(result(message, text("slow")))

    peer.instead["tools/call"] = slow
    task = asyncio.create_task(call())
    await started.wait()
    await call.client.close_idle(0)
    go_on.set()
    assert (await task).content[0]["text"] == "slow"
    assert len(peer.sessions) == 1


@both_eras
async def test_closing_ends_everything_and_leaves_nothing(call: Caller, peer: Peer, era: str) -> None:
    peer.serve = ERAS[era]
    before = asyncio.all_tasks()
    await asyncio.gather(*[call(identity=Identity(str(number))) for number in range(5)])
    assert len(peer.sessions) == 5
    await call.client.close()
    await until_ended(peer, 0)
    ours = [task for task in asyncio.all_tasks() - before if "servers/runtimes" in repr(task)]
    assert not ours


async def test_closing_while_a_session_opens_leaves_none_behind(call: Caller, peer: Peer) -> None:
    serve = handshake()
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        asked.set()
        await go_on.wait()
        return await serve(peer, request, message)

    peer.serve = serve
    peer.instead["initialize"] = slow
    task = asyncio.create_task(call())
    await asked.wait()
    await call.client.close()
    go_on.set()
    await task
    assert peer.opened == 2
    await until_ended(peer, call.client.sessions_open)


async def test_a_refusal_to_end_a_session_troubles_nobody(call: Caller, peer: Peer) -> None:
    peer.serve = handshake()
    await call()
    peer.answers("DELETE", 405)
    await call.client.close()
    assert len(peer.said("DELETE")) == 1
