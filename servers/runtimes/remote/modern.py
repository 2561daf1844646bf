"""Speaking 2026-07-28 to an upstream: every request by itself, its headers made from its own body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

import msgspec

from servers.protocol import modern
from servers.protocol.errors import (
    HEADER_MISMATCH,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    UNSUPPORTED_VERSION,
)
from servers.protocol.headers import MirroredParameter, encoded
from servers.protocol.revisions import HANDSHAKE, MODERN
from servers.runtimes.patience import PatientHeaders
from servers.runtimes.remote.asking import About, Ask, Era
from servers.runtimes.remote.bounds import MIRRORED
from servers.runtimes.remote.endpoint import Headers, Identity
from servers.runtimes.remote.failures import (
    BadStatus,
    CallFailed,
    EraMistaken,
    Refused,
    broken_off,
    invalid,
    legible,
    refused_argument,
)
from servers.runtimes.remote.messages import Reply, request, result_of
from servers.runtimes.remote.told import Told, told_of
from servers.runtimes.remote.wire import StreamEnded, Wire

DISCOVER = "server/discover"
DISCOVER_BYTES = 1024 * 1024
_OF_THIS_ERA = frozenset({HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION})
# What upstreams of the handshake eras say to a request without a session.
_OF_OLDER_ERAS = frozenset({INVALID_REQUEST, -32000, UNSUPPORTED_VERSION})
_UNKNOWN = About(Era.MODERN, MODERN)
# Headers, and `_meta` of sets of capabilities, that are kept ready.
_PREPARED = 1_000


class Discovered(msgspec.Struct, rename="camel"):
    """The result of server/discover, as far as it is of use."""

    supportedVersions: list[Any] = []
    capabilities: dict[str, Any] = {}
    instructions: str | None = None
    meta: dict[str, Any] | None = msgspec.field(default=None, name="_meta")


_discovered: msgspec.json.Decoder[Reply[Discovered]] = msgspec.json.Decoder(Reply[Discovered])


class Modern:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._ids = count(1)
        self._prepared: dict[tuple[Headers, str, str | None], PatientHeaders] = {}
        self._meta: dict[bytes, msgspec.Raw] = {}

    async def ask(self, ask: Ask) -> tuple[int, bytes]:
        """The id given to the request and the message that answers it. Raises CallFailed, EraMistaken among it.

        Leaving early closes the connection, which is how a request of this era is cancelled.
        """
        try:
            return await self._answer(ask)
        except BadStatus as bad:
            raise _judged(bad) from None

    async def discover(self, identity: Identity) -> About | None:
        """What a modern upstream says of itself, or None when it is of an older era. Raises CallFailed."""
        ask = Ask(DISCOVER, {}, DISCOVER_BYTES, identity)
        try:
            request_id, data = await self._answer(ask)
        except BadStatus as bad:
            return _recognized(bad)
        except CallFailed as failed:
            if failed.failure == "upstream_invalid":
                return None
            raise
        try:
            result = result_of(_discovered, data, request_id)
        except CallFailed:
            return None  # with a success, an error or junk is what older eras answer
        return _introduced(result)

    async def _answer(self, ask: Ask) -> tuple[int, bytes]:
        request_id = next(self._ids)
        told = told_of(ask.listener, request_id)
        # Last, so that nothing of the caller's replaces it.
        body = request(request_id, ask.method, {**ask.params, "_meta": self._meta_of(ask, told)})
        response = await self._wire.send("POST", self._headers(ask), body)
        try:
            return request_id, await self._wire.answer(response, request_id, ask.limit, told=told)
        except StreamEnded:
            raise broken_off() from None

    def _headers(self, ask: Ask) -> Any:
        """Shared by all requests for the same thing and never changed."""
        member = modern.NAMED_BY.get(ask.method)
        name = None if member is None else ask.params[member]
        key = (ask.identity.headers, ask.method, name)
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = PatientHeaders(self._prepare(ask, name))
            if len(self._prepared) >= _PREPARED:
                self._prepared.clear()
            self._prepared[key] = prepared
        headers = prepared.within(ask.seconds_left())
        if ask.mirrored:
            headers = headers.copy()
            headers.update(ask.mirrored)
        return headers

    def _prepare(self, ask: Ask, name: str | None) -> Any:
        own = {"MCP-Protocol-Version": MODERN, "Mcp-Method": ask.method}
        if name is not None:
            own["Mcp-Name"] = _header_text(name)
        return self._wire.posted(ask.identity, own)

    def _meta_of(self, ask: Ask, told: Told | None) -> Mapping[str, Any] | msgspec.Raw:
        """Ours alone: nothing of our client's `_meta` travels on."""
        capabilities = ask.identity.capabilities
        if told is not None:
            level = {modern.LOG_LEVEL: told.log_level} if told.log_level else {}
            return {**self._mine(capabilities), **told.meta, **level}
        meta = self._meta.get(capabilities)
        if meta is None:
            if len(self._meta) >= _PREPARED:
                self._meta.clear()
            meta = self._meta[capabilities] = msgspec.Raw(msgspec.json.encode(self._mine(capabilities)))
        return meta

    def _mine(self, capabilities: bytes) -> dict[str, Any]:
        return {
            modern.VERSION: MODERN,
            modern.CLIENT: self._wire.introduction.as_json,
            modern.CAPABILITIES: msgspec.Raw(capabilities),
        }


def mirrored(parameters: Iterable[MirroredParameter], arguments: Mapping[str, Any]) -> Headers:
    """The Mcp-Param-* headers of a call, from the arguments that are sent. Raises CallFailed for unfit ones."""
    headers = []
    for parameter in parameters:
        value: Any = arguments
        for step in parameter.path:
            value = value.get(step) if isinstance(value, Mapping) else None
        text = _mirrored_text(parameter.kind, value)
        if text is not None:
            headers.append((parameter.header, _header_text(text)))
    return tuple(headers)


def _mirrored_text(kind: str, value: Any) -> str | None:
    """None for what is absent, and for a value of another type, which the upstream refuses anyway."""
    if kind == "boolean" and isinstance(value, bool):
        return "true" if value else "false"
    if kind == "integer" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value)) if value == value // 1 else None
    return value if kind == "string" and isinstance(value, str) else None


def _header_text(text: str) -> str:
    if len(text) > MIRRORED:
        raise refused_argument(f"A value that is repeated in a header has at most {MIRRORED:,} characters.")
    try:
        return encoded(text)
    except UnicodeError:
        raise refused_argument("An argument holds half a character; send whole Unicode text.") from None


def _judged(bad: BadStatus) -> CallFailed:
    """What a refused request means while the upstream is believed to be of this era."""
    error = bad.error
    if error is None:
        return bad if bad.is_transient else EraMistaken(bad)
    refused = Refused(error, bad.verdict)
    if (bad.is_ours or error.code in _OF_THIS_ERA) and error.code not in _OF_OLDER_ERAS:
        return refused
    return bad if bad.is_transient else EraMistaken(refused)


def _recognized(bad: BadStatus) -> About | None:
    """Whether a refusal of server/discover is one that only this era knows."""
    if bad.is_transient:
        raise bad
    if bad.error is None or bad.status not in (400, 404):
        return None
    if bad.error.code == UNSUPPORTED_VERSION:
        data = bad.error.data
        supported = data.get("supported") if isinstance(data, dict) else None
        return _speaking(supported if isinstance(supported, list) else [])
    # Older eras say with status 200 that a method is unknown.
    is_modern = bad.error.code in _OF_THIS_ERA or (bad.error.code == METHOD_NOT_FOUND and bad.status == 404)
    return _UNKNOWN if is_modern else None


def _speaking(versions: list[Any]) -> About | None:
    if not versions or MODERN in versions:
        return _UNKNOWN
    if any(version in (*HANDSHAKE, "2024-11-05") for version in versions):
        return None
    named = ", ".join(legible(str(version))[:20] for version in versions[:5])
    raise invalid(f"The upstream speaks only revisions of MCP that are not known here: {named}.")


def _introduced(result: Discovered) -> About | None:
    spoken = _speaking(result.supportedVersions)
    if spoken is None:
        return None
    server = (result.meta or {}).get(modern.SERVER)
    said = server if isinstance(server, dict) else {}
    return About(
        Era.MODERN,
        MODERN,
        name=text_of(said, "name"),
        version=text_of(said, "version"),
        title=text_of(said, "title"),
        instructions=result.instructions or "",
        capabilities=result.capabilities,
    )


def text_of(said: Mapping[str, Any], member: str) -> str:
    value = said.get(member)
    return legible(value)[:200] if isinstance(value, str) else ""
