"""From a message to its answer: which era it is of, and which method it calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

import msgspec

from mooring.errors import NotFound
from servers.gateway import sessions
from servers.gateway.answering import Header
from servers.gateway.client import Client
from servers.gateway.watch import Watch
from servers.pipeline import lists, metrics, reading, tools
from servers.pipeline.call import Call
from servers.pipeline.directory import Directory, Endpoint
from servers.pipeline.material import LIVE
from servers.pipeline.principals import Principal
from servers.pipeline.snapshot import Snapshot
from servers.protocol import handshake, modern
from servers.protocol.content import DEGRADED, call_result
from servers.protocol.envelope import Envelope
from servers.protocol.revisions import MODERN
from servers.protocol.tokens import Sealer
from servers.runtimes.remote.tool import RemoteCall

Answer = tuple[int, bytes, list[Header]]
Json = dict[str, Any]
T = TypeVar("T")
_READING = frozenset({"resources/read", "prompts/get", "completion/complete"})
ACCEPTED: Answer = (202, b"", [])
# How long a client may keep a list without asking again, in milliseconds.
LIST_TTL = 30_000


async def answer(
    call: Call,
    envelope: Envelope,
    endpoint: Endpoint,
    principal: Principal,
    directory: Directory,
    sealer: Sealer,
    client: Client,
) -> Answer:
    meta = modern.meta_of(envelope)
    if modern.is_modern(envelope, meta, call.headers):
        call.revision = MODERN
        modern.check(envelope, meta, call.headers, call.duplicated)
        if not envelope.is_request:
            return ACCEPTED
        call.client = modern.client_name(meta)
        snapshot = endpoint.snapshots.peek(call.selector or LIVE) or await _snapshot(
            call, endpoint, directory
        )
        call.snapshot = snapshot
        result = await _result(call, snapshot, endpoint, directory, sealer, client)
        cache = {"ttlMs": 0 if call.is_draft else LIST_TTL, "cacheScope": _scope_of(endpoint, principal)}
        modern.complete(result, server=snapshot.info, method=call.method, cache=cache)
        return 200, _encoded(envelope, result), []
    if envelope.method == "initialize":
        return await _initialize(call, envelope, endpoint, principal, directory, sealer)
    return await _in_session(call, envelope, endpoint, principal, directory, sealer, client)


async def end(
    call: Call, endpoint: Endpoint, principal: Principal, directory: Directory, sealer: Sealer
) -> Answer:
    """DELETE ends a handshake session."""
    call.method = "session/end"
    session = await sessions.current_session(call, endpoint, principal, directory=directory, sealer=sealer)
    call.revision, call.client = session.revision, session.client
    await sessions.end_session(session, endpoint, directory)
    return 200, b"", []


async def _initialize(
    call: Call,
    envelope: Envelope,
    endpoint: Endpoint,
    principal: Principal,
    directory: Directory,
    sealer: Sealer,
) -> Answer:
    token, session = sessions.open_session(call, envelope, endpoint, principal, sealer)
    call.revision, call.client = session.revision, session.client
    call.snapshot = snapshot = await _snapshot(call, endpoint, directory)
    result = sessions.initialized(session, snapshot)
    return 200, _encoded(envelope, result), [(b"mcp-session-id", token.encode())]


async def _in_session(
    call: Call,
    envelope: Envelope,
    endpoint: Endpoint,
    principal: Principal,
    directory: Directory,
    sealer: Sealer,
    client: Client,
) -> Answer:
    session = await sessions.current_session(call, endpoint, principal, directory=directory, sealer=sealer)
    call.revision, call.client, call.session = session.revision, session.client, session.name
    handshake.check_version_header(call.headers, session.revision)
    if not envelope.is_request:
        return ACCEPTED
    handshake.check_method(envelope)
    if call.method == "ping":
        return 200, _encoded(envelope, {}), []
    if call.method == "logging/setLevel":
        await sessions.set_level(session, call.params.get("level"), endpoint, directory)
        return 200, _encoded(envelope, {}), []
    snapshot = endpoint.snapshots.peek(call.selector or LIVE) or await _snapshot(call, endpoint, directory)
    call.snapshot = snapshot
    result = await _result(call, snapshot, endpoint, directory, sealer, client)
    return 200, _encoded(envelope, result), []


async def _snapshot(call: Call, endpoint: Endpoint, directory: Directory) -> Snapshot:
    """From the database. Raises `NotFound`."""
    selector = call.selector or LIVE
    snapshot = await directory.snapshot(endpoint, selector)
    if snapshot is None:
        raise NotFound(_nothing_published(selector), code="version_not_found")
    return snapshot


def _nothing_published(selector: str) -> str:
    if selector == LIVE:
        return "This server has not published a version yet."
    return f"This server has no channel or version {selector!r}."


def _scope_of(endpoint: Endpoint, principal: Principal) -> str:
    return "public" if endpoint.facts.is_public and principal.kind == "anonymous" else "private"


async def _result(
    call: Call,
    snapshot: Snapshot,
    endpoint: Endpoint,
    directory: Directory,
    sealer: Sealer,
    client: Client,
) -> Json:
    method, params = call.method, call.params
    if method == "tools/call":
        return await _call_tool(call, snapshot, endpoint, client)
    if method in lists.LISTS:
        return await lists.listed(
            method,
            params,
            snapshot,
            call.revision,
            endpoint=endpoint,
            directory=directory,
            sealer=sealer,
            principal="" if call.principal is None else call.principal.key,
        )
    if method in _READING:
        return await _read(call, snapshot, endpoint, client)
    return modern.discovered(snapshot.instructions)


async def _read(call: Call, snapshot: Snapshot, endpoint: Endpoint, client: Client) -> Json:
    params, revision = call.params, call.revision
    asked = RemoteCall(
        asyncio.get_running_loop().time() + reading.SECONDS,
        endpoint.facts.limits.answer_bytes,
        "" if call.principal is None else call.principal.key,
        call.session,
    )
    if call.method == "resources/read":
        call.subject = str(params.get("uri", ""))
        work = reading.read_resource(params, snapshot, revision, asked)
    elif call.method == "prompts/get":
        call.subject = str(params.get("name", ""))
        work = reading.get_prompt(params, snapshot, revision, asked)
    else:
        work = reading.completed(params, snapshot, asked)
    result = await _while_wanted(work, call, client)
    if DEGRADED in result.get("_meta", ()):
        call.code = "degraded"
    return result


async def _call_tool(call: Call, snapshot: Snapshot, endpoint: Endpoint, client: Client) -> Json:
    params = call.params
    call.subject = str(params.get("name", ""))
    tool = tools.resolve(params, snapshot)
    arguments = tools.arguments_of(params)
    if call.revision == MODERN:
        tools.check_mirrored(tool, arguments, call.headers)
    outcome = tools.validated(tool, arguments)
    if outcome is None:
        began, is_immediate = time.perf_counter(), tool.binding.is_immediate
        work = tools.run(
            tool,
            arguments,
            answer_bytes=endpoint.facts.limits.answer_bytes,
            request_id=call.request_id,
            principal="" if call.principal is None else call.principal.key,
            session=call.session,
            listener=None if is_immediate else client.listener(call),
        )
        outcome = await work if is_immediate else await _while_wanted(work, call, client)
        metrics.note_running(time.perf_counter() - began)
    if outcome.is_error:
        call.status, call.code = "error", outcome.failure or "tool_error"
    elif outcome.degraded:
        call.code = "degraded"
    return call_result(outcome, tool.output_schema, call.revision)


async def _while_wanted(work: Awaitable[T], call: Call, client: Client) -> T:
    """Run until done, or cancel when the client goes: on the newest revision that is the cancellation signal.

    A handshake client that hangs up has not cancelled (specification, transports), so its call is not watched.
    """
    if call.revision != MODERN:
        return await work
    with Watch(client.receive):
        return await work


def _encoded(envelope: Envelope, result: Json) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": envelope.id, "result": result})
