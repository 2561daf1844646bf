"""Lists of any length, within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from servers.runtimes.remote.failures import CallFailed
from tests.servers.runtimes.remote.peers import ECHO, ID, Peer, handshake, result

if TYPE_CHECKING:
    from tests.servers.runtimes.remote.conftest import Caller

Json = dict[str, Any]


def tool(name: str, **more: Any) -> Json:
    return {"name": name, "inputSchema": {"type": "object"}} | more


def pages(peer: Peer, kind: str, made: Any) -> None:
    """`made(cursor)` gives the definitions of a page and the next cursor."""

    async def answer(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        definitions, following = made(message["params"].get("cursor"))
        more = {} if following is None else {"nextCursor": following}
        return web.json_response(result(message, {kind: definitions} | more))

    methods = {"tools": "tools/list", "prompts": "prompts/list", "resources": "resources/list"}
    peer.instead[methods[kind]] = answer


async def test_all_pages_are_gathered_and_the_empty_cursor_is_one(call: Caller, peer: Peer) -> None:
    book = {None: (["a", "b"], ""), "": (["c"], "2"), "2": (["d"], None)}

    def made(cursor: str | None) -> tuple[list[Json], str | None]:
        names, following = book[cursor]
        return [tool(name, extra={"kept": [1]}) for name in names], following

    pages(peer, "tools", made)
    listing = await call.client.list_all("tools", deadline=call.deadline)
    assert [one["name"] for one in listing.definitions] == ["a", "b", "c", "d"]
    assert listing.definitions[0] == tool("a", extra={"kept": [1]})
    assert (listing.problems, listing.cut) == ((), "")


@pytest.mark.parametrize("cursors", [["1", "1"], ["1", "2", "1"], ["", ""]])
async def test_a_list_that_goes_round_in_a_circle_ends(call: Caller, peer: Peer, cursors: list[str]) -> None:
    given = iter(cursors * 3)
    pages(peer, "tools", lambda cursor: ([tool(f"t{len(peer.received)}")], next(given)))
    listing = await call.client.list_all("tools", deadline=call.deadline)
    assert listing.cut == "The upstream's list goes round in a circle."
    assert len(listing.definitions) == len(cursors)


async def test_a_list_without_end_is_cut(call: Caller, peer: Peer) -> None:
    count = iter(range(10**6))
    pages(peer, "tools", lambda cursor: ([tool(f"t{next(count)}")], f"c{next(count)}"))
    listing = await call.client.list_all("tools", deadline=call.deadline)
    assert "100 pages" in listing.cut
    assert len(listing.definitions) == 100


async def test_a_list_of_too_many_or_too_large_entries_is_cut(call: Caller, peer: Peer) -> None:
    pages(peer, "tools", lambda cursor: ([tool(f"t{number}") for number in range(6_000)], None))
    listing = await call.client.list_all("tools", deadline=call.deadline)
    assert ("5,000 entries" in listing.cut, len(listing.definitions)) == (True, 5_000)
    count = iter(range(10**6))
    pages(
        peer,
        "tools",
        lambda cursor: ([tool(f"t{next(count)}", description="x" * 3_000_000)], f"c{next(count)}"),
    )
    call.seconds = 30
    with pytest.raises(CallFailed) as failed:  # the page that no longer fits into what is left
        await call.client.list_all("tools", deadline=call.deadline)
    assert failed.value.failure == "answer_too_large"


async def test_entries_that_cannot_be_used_are_left_out_and_named(call: Caller, peer: Peer) -> None:
    bad_header = {"type": "object", "properties": {"n": {"type": "number", "x-mcp-header": "N"}}}
    given: list[Any] = [
        ECHO,
        "no tool",
        {"name": ""},
        {"name": 5},
        {"name": "no schema"},
        tool("echo", description="another one"),
        tool("bad \u202eheader", inputSchema=bad_header),
    ]
    pages(peer, "tools", lambda cursor: (given, None))
    listing = await call.client.list_all("tools", deadline=call.deadline)
    assert listing.definitions == (ECHO,)
    assert [problem.split(":")[0] for problem in listing.problems] == [
        "An entry has no name.",
        "An entry has no name.",
        "An entry has no name.",
        "The tool 'no schema' has no input schema.",
        "'echo' is there twice; the first one counts.",
        "The tool 'bad header' cannot be called",
    ]
    peer.serve = handshake()
    peer.instead.pop("server/discover", None)
    await call()
    listing = await call.client.list_all("tools", deadline=call.deadline)
    assert [one["name"] for one in listing.definitions][-1] == "bad \u202eheader"


async def test_what_is_not_offered_is_empty_and_not_asked_for(call: Caller, peer: Peer) -> None:
    peer.serve = handshake()
    listing = await call.client.list_all("prompts", deadline=call.deadline)
    assert listing.definitions == ()
    assert not peer.said("prompts/list")


async def test_a_method_that_is_not_there_is_an_empty_list(call: Caller, peer: Peer) -> None:
    refusal = {"jsonrpc": "2.0", "id": ID, "error": {"code": -32601, "message": "no"}}
    peer.answers("server/discover", 404, refusal)
    peer.answers("prompts/list", 404, refusal)
    assert (await call.client.list_all("prompts", deadline=call.deadline)).definitions == ()


@pytest.mark.parametrize("value", [{"tools": "none"}, {}, {"tools": None}])
async def test_a_page_without_a_list_is_told(call: Caller, peer: Peer, value: Json) -> None:
    peer.answers("tools/list", 200, {"jsonrpc": "2.0", "id": ID, "result": value})
    listing = await call.client.list_all("tools", deadline=call.deadline)
    assert listing.cut == "A page of the list holds no list."


async def test_a_failure_on_the_way_is_one_of_the_whole(call: Caller, peer: Peer) -> None:
    peer.answers("tools/list", 500)
    with pytest.raises(CallFailed) as failed:
        await call.client.list_all("tools", deadline=call.deadline)
    assert failed.value.failure == "upstream_failed"
