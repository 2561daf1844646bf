"""Sessions of Streamable HTTP, 2025-03-26 to 2025-11-25."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from itertools import count
from typing import Any

import aiohttp
import msgspec

from servers.protocol.errors import INVALID_PARAMS, METHOD_NOT_FOUND
from servers.protocol.revisions import HANDSHAKE, NEWEST_HANDSHAKE
from servers.runtimes.patience import PatientHeaders
from servers.runtimes.remote.asking import About, Ask, Era
from servers.runtimes.remote.bounds import ERROR_BYTES, RESUME_SECONDS, RESUMPTIONS, SESSION_ID
from servers.runtimes.remote.endpoint import Identity
from servers.runtimes.remote.failures import (
    BadStatus,
    CallFailed,
    EraMistaken,
    Refused,
    SessionLost,
    broken_off,
    invalid,
    legible,
)
from servers.runtimes.remote.messages import Head, Reply, notification, reply_to, request, result_of
from servers.runtimes.remote.modern import text_of
from servers.runtimes.remote.told import Told, severity, told_of
from servers.runtimes.remote.wire import StreamEnded, Wire

INITIALIZE_BYTES = 1024 * 1024
OLDEST = "2024-11-05"
KNOWN = (*HANDSHAKE, OLDEST)
# Revisions whose clients repeat the revision in a header.
_WITH_HEADER = ("2025-06-18", "2025-11-25")
_RESUMABLE = "2025-11-25"
_VISIBLE = re.compile(r"[\x21-\x7e]+")


class Initialized(msgspec.Struct, rename="camel"):
    """The result of initialize, as far as it is of use."""

    protocolVersion: str
    capabilities: dict[str, Any] = {}
    serverInfo: dict[str, Any] = {}
    instructions: str | None = None


_initialized: msgspec.json.Decoder[Reply[Initialized]] = msgspec.json.Decoder(Reply[Initialized])


class HandshakeSession:
    """Requests travel side by side on the connections of the upstream, tied together by a header."""

    def __init__(self, wire: Wire, identity: Identity, session: str, about: About) -> None:
        self._wire = wire
        self._identity = identity
        self._own = {"Mcp-Session-Id": session} if session else {}
        if about.revision in _WITH_HEADER:
            self._own["MCP-Protocol-Version"] = about.revision
        self._headers = wire.posted(identity, self._own)
        self._patient = PatientHeaders(self._headers)
        self._ids = count(2)  # initialize was the first
        self._has_name = bool(session)
        self.about = about
        self.is_lost = False
        self._log_level = ""

    async def begin(self) -> None:
        """Tell the upstream that its answer is understood. Raises CallFailed."""
        try:
            await self._wire.tell(self._headers, notification("notifications/initialized", {}))
        except BadStatus as bad:
            if bad.is_transient:
                raise
            # It initialized; what it thinks of the session will show with the first request.

    async def ask(self, ask: Ask) -> tuple[int, bytes]:
        request_id = next(self._ids)
        told = told_of(ask.listener, request_id)
        if told is not None:
            await self._lower_log_level(told.log_level)
        body = request(request_id, ask.method, ask.params if told is None else _with_meta(ask.params, told))
        try:
            return request_id, await self._answer(body, request_id, ask, told)
        except BadStatus as bad:
            raise self._judged(bad) from None
        except asyncio.CancelledError:
            # Hanging up is not cancelling, in these revisions.
            self._wire.errands.run(self._wire.tell(self._headers, cancelled(request_id)))
            raise

    async def _lower_log_level(self, level: str) -> None:
        """Have the session's messages sent down to this level. They belong to a call by the stream they come on."""
        if severity(level) >= severity(self._log_level) or "logging" not in (self.about.capabilities or {}):
            return
        before, self._log_level = self._log_level, level
        number, ask = next(self._ids), Ask("logging/setLevel", {"level": level}, ERROR_BYTES)
        try:
            await self._answer(request(number, ask.method, ask.params), number, ask, None)
        except CallFailed:
            self._log_level = before  # the call is what matters, and shows what is wrong
        except BaseException:
            self._log_level = before
            raise

    async def _answer(self, body: bytes, request_id: int, ask: Ask, told: Told | None) -> bytes:
        response = await self._wire.send("POST", self._patient.within(ask.seconds_left()), body)
        try:
            return await self._wire.answer(response, request_id, ask.limit, self._refuse, told)
        except StreamEnded as ended:
            return await self._rest(ended, request_id, ask.limit, told)

    async def _rest(self, ended: StreamEnded, request_id: int, limit: int, told: Told | None) -> bytes:
        """An upstream of 2025-11-25 may hang up and be asked for what is left of the stream.

        Whatever goes wrong now, the request was taken: it must not look as if it had been refused.
        """
        for attempt in range(RESUMPTIONS):
            response = await self._resumed(ended, attempt)
            try:
                return await self._wire.answer(response, request_id, limit, self._refuse, told)
            except StreamEnded as again:
                again.search.events.last_id = again.search.events.last_id or ended.search.events.last_id
                ended = again
            except BadStatus:
                break
        raise broken_off()

    async def _resumed(self, ended: StreamEnded, attempt: int) -> aiohttp.ClientResponse:
        events = ended.search.events
        if self.about.revision != _RESUMABLE or not events.last_id:
            raise broken_off()
        await asyncio.sleep(min(RESUME_SECONDS, (events.retry_ms or 100 * (attempt + 1)) / 1000))
        headers = self._wire.streamed(self._identity, {**self._own, "Last-Event-ID": events.last_id})
        return await self._wire.send("GET", headers)

    async def _refuse(self, asked: Head) -> None:
        await self._wire.tell(self._headers, reply_to(asked))

    def _judged(self, bad: BadStatus) -> CallFailed:
        error = bad.error
        if error is None:
            if bad.status == 404 and self._has_name:
                return SessionLost()
            return EraMistaken(bad, is_gone=True) if bad.status in (404, 405) else bad
        is_about_us = bad.is_ours and error.code in (METHOD_NOT_FOUND, INVALID_PARAMS)
        if self._has_name and not is_about_us and self._forgot(bad.status, bad.is_ours, error.message):
            return SessionLost()
        refused = Refused(error, bad.verdict)
        # These eras answer with 200; 400 is also how a modern upstream refuses a request without `_meta`.
        return EraMistaken(refused) if bad.status == 400 else refused

    @staticmethod
    def _forgot(status: int, is_ours: bool, message: str) -> bool:
        """Some upstreams say with 400 that they do not know a session, as if none had been named."""
        return status == 404 or (status == 400 and not is_ours and "session" in message.lower())

    def leave(self) -> None:
        self.is_lost = True

    async def close(self) -> None:
        self.leave()
        if self._has_name:
            await self._wire.end(self._headers)


def _with_meta(params: Mapping[str, Any], told: Told) -> dict[str, Any]:
    return {**params, "_meta": told.meta} if told.meta else dict(params)


async def open_session(wire: Wire, identity: Identity) -> HandshakeSession:
    """Raises CallFailed; BadStatus when the upstream refuses to initialize with one."""
    revision = NEWEST_HANDSHAKE
    try:
        return await _initialize(wire, identity, revision)
    except (Refused, BadStatus) as refused:
        revision = common_revision(refused)
    return await _initialize(wire, identity, revision)


async def _initialize(wire: Wire, identity: Identity, revision: str) -> HandshakeSession:
    body = request(1, "initialize", opening(wire, identity, revision))
    response = await wire.send("POST", wire.posted(identity, {}), body)
    named = response.headers.get("Mcp-Session-Id", "")
    try:
        data = await wire.answer(response, 1, INITIALIZE_BYTES)
    except StreamEnded:
        raise broken_off() from None
    session = HandshakeSession(wire, identity, _session_id(named), about(data, Era.HANDSHAKE))
    await session.begin()
    return session


def _session_id(named: str) -> str:
    if named and (len(named) > SESSION_ID or not _VISIBLE.fullmatch(named)):
        raise invalid("The upstream gave a session id that cannot be repeated in a header.")
    return named


def opening(wire: Wire, identity: Identity, revision: str) -> dict[str, Any]:
    """The params of initialize."""
    return {
        "protocolVersion": revision,
        "capabilities": msgspec.Raw(identity.capabilities),
        "clientInfo": wire.introduction.as_json,
    }


def about(data: bytes, era: Era, request_id: int = 1) -> About:
    """From the answer to initialize. Raises CallFailed for a revision that is not known here."""
    result = result_of(_initialized, data, request_id)
    if result.protocolVersion not in KNOWN:
        named = legible(result.protocolVersion)[:40]
        raise invalid(f"The upstream wants to speak revision {named} of MCP, which is not known here.")
    return About(
        era,
        result.protocolVersion,
        name=text_of(result.serverInfo, "name"),
        version=text_of(result.serverInfo, "version"),
        title=text_of(result.serverInfo, "title"),
        instructions=result.instructions or "",
        capabilities=result.capabilities,
    )


def common_revision(refused: Refused | BadStatus) -> str:
    """The newest that a refusal of initialize names and we know; raises the refusal when it names none."""
    data: Any = refused.error.data if refused.error is not None else None
    supported = data.get("supported") if isinstance(data, Mapping) else None
    for revision in KNOWN[1:]:
        if isinstance(supported, list) and revision in supported:
            return revision
    raise refused


def cancelled(request_id: int) -> bytes:
    return notification("notifications/cancelled", {"requestId": request_id, "reason": "The caller left."})
