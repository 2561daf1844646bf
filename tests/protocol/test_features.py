"""Tools, resources, prompts, completion, pages, caching: the same for clients of every revision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.protocol.conftest import ANY, MANIFEST, WORDS, Peer
from tests.protocol.requirements import EVERY, HANDSHAKE, MODERN, SINCE_JUNE, requirement
from tests.servers.conftest import META, GatewayDriver

LISTS = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}


def capabilities(peer: Peer) -> Any:
    opened = peer.session.opened if peer.session is not None else peer.result("server/discover")
    return opened["capabilities"]


@requirement(
    "2026-07-28/tools/capability",
    "2026-07-28/resources/capability",
    "2026-07-28/prompts/capability",
    "2026-07-28/completion/capability",
)
def test_what_is_there_is_declared_and_listed(peer: Peer) -> None:
    assert {"tools", "resources", "prompts", "completions"} <= set(capabilities(peer))
    counts = {method: len(peer.result(method)[kind]) for method, kind in LISTS.items()}
    assert counts == {
        "tools/list": 3,
        "resources/list": 2,
        "resources/templates/list": 1,
        "prompts/list": 1,
    }


@requirement(
    "2026-07-28/tools/empty-list", "2026-07-28/resources/capability", "2026-07-28/prompts/capability"
)
@pytest.mark.parametrize("revision", EVERY)
def test_an_empty_server_lists_nothing(
    publish: Callable[..., str], peer_of: Callable[..., Peer], revision: str
) -> None:
    peer = peer_of(publish("empty"), revision)
    assert {kind: peer.result(method)[kind] for method, kind in LISTS.items()} == {
        kind: [] for kind in LISTS.values()
    }


@requirement("2026-07-28/tools/order")
def test_a_list_has_the_same_order_each_time(modern: Peer) -> None:
    for method, kind in LISTS.items():
        first, *more = ([row["name"] for row in modern.result(method)[kind]] for _ in range(3))
        assert more == [first, first]


@requirement("2026-07-28/tools/unknown")
def test_a_tool_that_is_not_there_is_an_error(peer: Peer) -> None:
    assert peer.error("tools/call", {"name": "nope"}) == -32602


@requirement("2026-07-28/tools/bad-arguments")
def test_arguments_that_do_not_fit_are_a_result_that_says_what_to_mend(peer: Peer) -> None:
    result = peer.result("tools/call", {"name": "echo", "arguments": {"text": 5}})
    assert result["isError"] is True
    assert "text" in result["content"][0]["text"]


@requirement("2026-07-28/tools/structured-text")
@pytest.mark.parametrize("revision", SINCE_JUNE)
def test_structured_content_comes_as_text_too(desk: str, peer_of: Callable[..., Peer], revision: str) -> None:
    result = peer_of(desk, revision).result("tools/call", {"name": "strict", "arguments": {"text": "a"}})
    assert result["structuredContent"] == {"text": "a"}
    assert result["content"] == [{"type": "text", "text": "a"}]


@requirement("2026-07-28/tools/output-schema")
@pytest.mark.parametrize("revision", SINCE_JUNE)
def test_an_answer_that_does_not_fit_the_output_schema_is_not_passed_off_as_one(
    desk: str, peer_of: Callable[..., Peer], revision: str
) -> None:
    peer = peer_of(desk, revision)
    good = peer.result("tools/call", {"name": "strict", "arguments": {"text": "a"}})
    assert "isError" not in good
    bad = peer.result("tools/call", {"name": "strict", "arguments": {"other": 1}})
    assert bad["isError"] is True
    assert "structuredContent" not in bad


@requirement("2025-11-25/tools/object-output", "2026-07-28/tools/output-schema")
@pytest.mark.parametrize("revision", SINCE_JUNE)
def test_a_list_is_wrapped_for_those_who_know_only_objects(
    pets: str, peer_of: Callable[..., Peer], revision: str
) -> None:
    peer = peer_of(pets, revision)
    (tool,) = peer.result("tools/list")["tools"]
    found = peer.result("tools/call", {"name": "pets"})["structuredContent"]
    if revision == MODERN:
        assert (tool["outputSchema"], found[0]["name"]) == ({"type": "array"}, "Rex")
    else:
        assert (tool["outputSchema"]["type"], found["result"][0]["name"]) == ("object", "Rex")


@requirement("2026-07-28/schemas/kept")
def test_a_schema_reaches_the_client_as_it_was_written(peer: Peer) -> None:
    tools = {tool["name"]: tool for tool in peer.result("tools/list")["tools"]}
    assert tools["echo"]["inputSchema"] == MANIFEST["tools"][0]["input_schema"]
    assert list(tools["echo"]["inputSchema"]) == list(MANIFEST["tools"][0]["input_schema"])


@requirement("2026-07-28/resources/read", "2026-07-28/resources/templates")
def test_text_bytes_and_filled_templates_are_read(peer: Peer) -> None:
    def read(uri: str) -> Any:
        (content,) = peer.result("resources/read", {"uri": uri})["contents"]
        return content

    rules = {"uri": "desk://rules", "mimeType": "text/plain", "text": "No running."}
    assert read("desk://rules") == rules
    assert read("desk://dot") == {"uri": "desk://dot", "mimeType": "image/png", "blob": "iVBORw0KGgo="}
    assert read("desk://people/ann") == {"uri": "desk://people/ann", "text": "ann works here."}
    (template,) = peer.result("resources/templates/list")["resourceTemplates"]
    assert template["uriTemplate"] == "desk://people/{who}"


@requirement("2026-07-28/resources/missing", "2026-07-28/messages/retired-error-codes")
def test_a_missing_resource_is_an_error_that_names_it(modern: Peer) -> None:
    error = modern.ask("resources/read", {"uri": "desk://none"}).error
    assert (error["code"], error["data"]["uri"]) == (-32602, "desk://none")


@requirement("2025-11-25/resources/missing")
def test_a_missing_resource_has_a_code_of_its_own_in_handshake_revisions(older: Peer) -> None:
    assert older.error("resources/read", {"uri": "desk://none"}) == -32002


@requirement("2026-07-28/prompts/get")
def test_a_prompt_gives_its_messages_filled_in(peer: Peer) -> None:
    result = peer.result("prompts/get", {"name": "review", "arguments": {"topic": "law"}})
    message = {"role": "user", "content": {"type": "text", "text": "Review law."}}
    assert (result["messages"], result["description"]) == ([message], "Review a text")


@requirement("2026-07-28/prompts/errors")
@pytest.mark.parametrize(
    "params", [{"name": "nope"}, {"name": "review"}, {"name": "review", "arguments": {"topic": 7}}, {}]
)
def test_a_prompt_that_cannot_be_given_is_an_error(peer: Peer, params: dict[str, Any]) -> None:
    reply = peer.ask("prompts/get", params, headers={"mcp-name": params.get("name", "")})
    missing_name = peer.revision == MODERN and not params
    assert reply.error["code"] == (-32020 if missing_name else -32602)


def proposed(peer: Peer, ref: dict[str, str], name: str, value: str) -> Any:
    params = {"ref": ref, "argument": {"name": name, "value": value}}
    return peer.result("completion/complete", params)["completion"]


PROMPT = {"type": "ref/prompt", "name": "review"}
TEMPLATE = {"type": "ref/resource", "uri": "desk://people/{who}"}


@requirement("2026-07-28/completion/references", "2026-07-28/completion/at-most-100")
@pytest.mark.parametrize(("ref", "name"), [(PROMPT, "topic"), (TEMPLATE, "who")])
def test_arguments_and_variables_are_completed_a_hundred_at_most(
    peer: Peer, ref: dict[str, str], name: str
) -> None:
    assert proposed(peer, ref, name, "word14") == {
        "values": [word for word in WORDS if word.startswith("word14")],
        "hasMore": False,
    }
    many = proposed(peer, ref, name, "word")
    assert (len(many["values"]), many["hasMore"]) == (100, True)


@requirement("2026-07-28/completion/errors")
@pytest.mark.parametrize(
    "ref", [{"type": "ref/prompt", "name": "no"}, {"type": "ref/resource", "uri": "no://no"}, {"type": "x"}]
)
def test_what_is_not_there_cannot_be_completed(peer: Peer, ref: dict[str, str]) -> None:
    params = {"ref": ref, "argument": {"name": "topic", "value": ""}}
    assert peer.error("completion/complete", params) == -32602


TOOLS = [{"name": f"t{n:03}", "input_schema": ANY, "static": {"kind": "echo"}} for n in range(220)]


@requirement("2026-07-28/pagination/cursor")
@pytest.mark.parametrize("revision", EVERY)
def test_a_long_list_comes_in_pages_and_ends(
    publish: Callable[..., str], peer_of: Callable[..., Peer], revision: str
) -> None:
    peer = peer_of(publish("wide", tools=TOOLS), revision)
    names, params, pages = [], {}, 0
    while True:
        page = peer.result("tools/list", params)
        names += [tool["name"] for tool in page["tools"]]
        pages += 1
        if "nextCursor" not in page:
            break
        params = {"cursor": page["nextCursor"]}
    assert (names, pages) == ([tool["name"] for tool in TOOLS], 3)


@requirement("2026-07-28/pagination/bad-cursor")
@pytest.mark.parametrize("cursor", ["", "x", 7, "bm9uc2Vuc2U"])
def test_a_cursor_that_is_none_of_ours_is_an_error(peer: Peer, cursor: object) -> None:
    assert {peer.error(method, {"cursor": cursor}) for method in LISTS} == {-32602}


@requirement("2026-07-28/logging/level")
@pytest.mark.parametrize(("level", "status"), [("info", 200), ("emergency", 200), ("loud", 400), ("", 400)])
def test_a_log_level_in_meta_is_one_of_eight(modern: Peer, level: str, status: int) -> None:
    meta = {META + "protocolVersion": MODERN, META + "clientCapabilities": {}, META + "logLevel": level}
    reply = modern.ask("tools/list", meta=meta)
    assert reply.status == status
    if status == 400:
        assert reply.error["code"] == -32602


CACHED: dict[str, dict[str, Any]] = {
    "server/discover": {},
    **{method: {} for method in LISTS},
    "resources/read": {"uri": "desk://rules"},
}
UNCACHED: dict[str, dict[str, Any]] = {
    "tools/call": {"name": "echo"},
    "prompts/get": {"name": "review", "arguments": {"topic": "x"}},
    "completion/complete": {"ref": PROMPT, "argument": {"name": "topic", "value": ""}},
}


@requirement("2026-07-28/caching/hints", "2026-07-28/caching/ttl", "2026-07-28/caching/private")
def test_what_may_be_kept_says_how_long_and_for_whom(modern: Peer) -> None:
    for method, params in CACHED.items():
        result = modern.result(method, params)
        assert type(result["ttlMs"]) is int
        assert result["ttlMs"] >= 0
        assert result["cacheScope"] == "private", "a key was needed for it"
    for method, params in UNCACHED.items():
        assert not {"ttlMs", "cacheScope"} & set(modern.result(method, params)), method


@requirement("2026-07-28/caching/private")
def test_only_what_anybody_may_see_is_public(
    gateway: GatewayDriver, key: str, publish: Callable[..., str]
) -> None:
    at = publish("open", is_public=True, **MANIFEST)
    assert gateway.modern(at, "tools/list").result["cacheScope"] == "public"
    assert gateway.modern(at, "tools/list", key=key).result["cacheScope"] == "private"


@requirement("2026-07-28/caching/one-scope")
def test_all_pages_of_a_list_have_one_scope(
    publish: Callable[..., str], peer_of: Callable[..., Peer]
) -> None:
    peer = peer_of(publish("wide", tools=TOOLS), MODERN)
    first = peer.result("tools/list")
    second = peer.result("tools/list", {"cursor": first["nextCursor"]})
    assert first["cacheScope"] == second["cacheScope"]


@requirement("2026-07-28/tools/capability")
@pytest.mark.parametrize("revision", HANDSHAKE)
def test_definitions_have_only_what_the_revision_knows(
    publish: Callable[..., str], peer_of: Callable[..., Peer], revision: str
) -> None:
    tool = {
        "name": "full",
        "title": "Full",
        "input_schema": ANY,
        "output_schema": ANY,
        "annotations": {"readOnlyHint": True},
        "static": {"kind": "echo"},
    }
    (listed,) = peer_of(publish("full", tools=[tool]), revision).result("tools/list")["tools"]
    newer = {"title", "outputSchema"}
    assert set(listed) & newer == (set() if revision == "2025-03-26" else newer)
    assert listed["annotations"] == {"readOnlyHint": True}
