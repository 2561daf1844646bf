"""Revision 2026-07-28: stateless requests that carry their revision and capabilities in `_meta`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from servers.protocol.capabilities import server_capabilities
from servers.protocol.envelope import Envelope
from servers.protocol.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    UNSUPPORTED_VERSION,
    ProtocolError,
    invalid_params,
    method_not_found,
)
from servers.protocol.headers import MalformedHeader, decoded
from servers.protocol.revisions import HANDSHAKE, MODERN, SUPPORTED, is_modern_header

PREFIX = "io.modelcontextprotocol/"
VERSION, CAPABILITIES, CLIENT = (
    PREFIX + "protocolVersion",
    PREFIX + "clientCapabilities",
    PREFIX + "clientInfo",
)
LOG_LEVEL, SERVER = PREFIX + "logLevel", PREFIX + "serverInfo"
LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

# Which member of `params` the header Mcp-Name repeats.
NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
METHODS = frozenset(
    {
        "server/discover",
        "tools/list",
        "tools/call",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "completion/complete",
    }
)
CACHEABLE = frozenset(
    {
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
    }
)


def meta_of(envelope: Envelope) -> Mapping[str, Any]:
    meta = envelope.params.get("_meta") if isinstance(envelope.params, dict) else None
    return meta if isinstance(meta, dict) else {}


def is_modern(envelope: Envelope, meta: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    """Whether a message is of this era: the body's `_meta` decides, then the headers (protocol.md 1.6)."""
    if VERSION in meta:
        return True
    version = headers.get("mcp-protocol-version", "")
    if not version or envelope.method == "initialize":
        return False
    if is_modern_header(version):
        return True
    return version not in HANDSHAKE and "mcp-method" in headers and "mcp-session-id" not in headers


def check(
    envelope: Envelope, meta: Mapping[str, Any], headers: Mapping[str, str], duplicated: frozenset[str]
) -> None:
    """The ladder of protocol.md 1.6 up to "method known"; raises `ProtocolError` at the first broken rung."""
    if not envelope.is_request:
        return  # the revision defines no notification over HTTP and asks for leniency
    _check_meta(meta)
    _check_headers(envelope, meta, headers, duplicated)
    if meta[VERSION] != MODERN:
        raise ProtocolError(
            UNSUPPORTED_VERSION,
            f"Revision {str(meta[VERSION])[:40]!r} is not spoken this way here.",
            data={"supported": [MODERN], "requested": meta[VERSION]},
        )
    if envelope.method not in METHODS:
        raise method_not_found(str(envelope.method))


def _check_meta(meta: Mapping[str, Any]) -> None:
    if not isinstance(meta.get(VERSION), str):
        raise invalid_params(f"params._meta needs {VERSION} as text.")
    if not isinstance(meta.get(CAPABILITIES), dict):
        raise invalid_params(f"params._meta needs {CAPABILITIES} as an object; it may be empty.")
    if meta.get(LOG_LEVEL, "info") not in LOG_LEVELS:
        raise ProtocolError(INVALID_PARAMS, f"{LOG_LEVEL} must be one of {', '.join(LOG_LEVELS)}.")


def _check_headers(
    envelope: Envelope, meta: Mapping[str, Any], headers: Mapping[str, str], duplicated: frozenset[str]
) -> None:
    if duplicated and (twice := [name for name in duplicated if name.startswith("mcp-")]):
        raise _mismatch(f"{min(twice)} was sent more than once.")
    if headers.get("mcp-protocol-version") != meta[VERSION]:
        raise _mismatch("MCP-Protocol-Version and the revision in params._meta differ.")
    if headers.get("mcp-method") != envelope.method:
        raise _mismatch("Mcp-Method and the body's method differ.")
    member = NAMED_BY.get(str(envelope.method))
    if member is None:
        return
    try:
        name = decoded(headers.get("mcp-name", ""))
    except MalformedHeader as error:
        raise _mismatch(f"Mcp-Name: {error}") from None
    params = envelope.params if isinstance(envelope.params, dict) else {}
    if "mcp-name" not in headers or name != params.get(member):
        raise _mismatch(f"Mcp-Name and params.{member} differ.")


def _mismatch(message: str) -> ProtocolError:
    return ProtocolError(HEADER_MISMATCH, message)


def header_parameter_mismatch(message: str) -> ProtocolError:
    return _mismatch(message)


def client_name(meta: Mapping[str, Any]) -> str:
    info = meta.get(CLIENT)
    return name_and_version(info) if isinstance(info, dict) else ""


def name_and_version(info: Mapping[str, Any]) -> str:
    """Self-asserted and for display only."""
    return f"{info.get('name', '')} {info.get('version', '')}".strip()[:120]


def complete(
    result: dict[str, Any], *, server: Mapping[str, str], method: str, cache: Mapping[str, Any]
) -> None:
    """Add what every complete result of this revision carries."""
    result["resultType"] = "complete"
    if method in CACHEABLE:
        result.update(cache)
    result.setdefault("_meta", {})[SERVER] = dict(server)


def discovered(instructions: str) -> dict[str, Any]:
    result: dict[str, Any] = {"supportedVersions": list(SUPPORTED), "capabilities": server_capabilities()}
    if instructions:
        result["instructions"] = instructions
    return result
