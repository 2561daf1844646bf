"""Revisions 2025-03-26 to 2025-11-25: `initialize`, then requests within a session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from servers.protocol.capabilities import server_capabilities
from servers.protocol.envelope import Envelope
from servers.protocol.errors import (
    INVALID_REQUEST,
    ProtocolError,
    invalid_params,
    method_not_found,
)
from servers.protocol.revisions import HANDSHAKE, negotiated

METHODS = frozenset(
    {
        "initialize",
        "ping",
        "logging/setLevel",
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


def requested_revision(envelope: Envelope) -> str:
    """The revision `initialize` settles on. Raises -32602 when its params are not what the schema asks for."""
    params = envelope.params if isinstance(envelope.params, dict) else {}
    if not isinstance(params.get("protocolVersion"), str):
        raise invalid_params("initialize needs protocolVersion as text.")
    if not isinstance(params.get("capabilities"), dict):
        raise invalid_params("initialize needs capabilities as an object; it may be empty.")
    if not isinstance(params.get("clientInfo"), dict):
        raise invalid_params("initialize needs clientInfo with a name and a version.")
    return negotiated(params["protocolVersion"])


def initialized(revision: str, *, server: Mapping[str, str], instructions: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "protocolVersion": revision,
        "capabilities": server_capabilities(),
        "serverInfo": dict(server),
    }
    if instructions:
        result["instructions"] = instructions
    return result


def check_version_header(headers: Mapping[str, str], revision: str) -> None:
    """A later request may repeat the session's revision, and no other."""
    version = headers.get("mcp-protocol-version")
    if version is None or version == revision:
        return
    known = (
        "the session speaks " + revision if version in HANDSHAKE else f"supported are {', '.join(HANDSHAKE)}"
    )
    raise ProtocolError(
        INVALID_REQUEST, f"MCP-Protocol-Version {version[:40]!r} does not fit: {known}.", http=400
    )


def check_method(envelope: Envelope) -> None:
    if envelope.method not in METHODS:
        raise method_not_found(str(envelope.method))


def session_missing() -> ProtocolError:
    return ProtocolError(
        INVALID_REQUEST,
        "Send initialize first and repeat the Mcp-Session-Id it answers with.",
        http=400,
        reason="session_missing",
    )


def session_unknown() -> ProtocolError:
    return session_over("session_unknown", "This session is unknown or has ended. Send initialize again.")


def session_over(reason: str, sentence: str) -> ProtocolError:
    """404 is what has a client send initialize again."""
    return ProtocolError(404, sentence, http=404, reason=reason)
