"""Handshake sessions: opened by `initialize`, carried in a sealed token, checked on each request."""

from __future__ import annotations

from servers.pipeline.call import Call
from servers.pipeline.directory import Directory, Endpoint
from servers.pipeline.principals import Principal
from servers.pipeline.snapshot import Snapshot
from servers.protocol import capabilities, handshake, modern
from servers.protocol.envelope import Envelope
from servers.protocol.errors import INVALID_REQUEST, ProtocolError, invalid_params
from servers.protocol.tokens import InvalidToken, Sealer, Session
from servers.services import sessions as stored


def open_session(
    call: Call, envelope: Envelope, endpoint: Endpoint, principal: Principal, sealer: Sealer
) -> tuple[str, Session]:
    """The token and the session of an `initialize`; raises `ProtocolError` for params that do not fit."""
    if not envelope.is_request:
        raise ProtocolError(INVALID_REQUEST, "initialize is a request, so it needs an id.")
    revision = handshake.requested_revision(envelope)
    return sealer.new_session(
        revision=revision,
        capabilities=capabilities.to_bits(call.params["capabilities"]),
        principal=principal.key,
        server=endpoint.facts.id,
        client=modern.name_and_version(call.params["clientInfo"]),
    )


async def current_session(
    call: Call, endpoint: Endpoint, principal: Principal, *, directory: Directory, sealer: Sealer
) -> Session:
    """Raises 400 without a session id, and 404 for one that is unknown, ended or another principal's.

    The log level that the session was set to is left on the call.
    """
    token = call.headers.get("mcp-session-id")
    if token is None:
        raise handshake.session_missing()
    try:
        session = sealer.open_session(token)
    except InvalidToken:
        raise handshake.session_unknown() from None
    if session.principal != principal.key or session.server != endpoint.facts.id:
        raise handshake.session_unknown()
    nonce = session.nonce.hex()
    facts = directory.sessions.peek(nonce) or await directory.session(nonce)
    if facts.has_ended:
        raise handshake.session_unknown()
    call.log_level = facts.log_level
    return session


async def end_session(session: Session, endpoint: Endpoint, directory: Directory) -> None:
    nonce = session.nonce.hex()
    await directory.in_thread(
        lambda: stored.end_session(
            nonce, tenant=endpoint.facts.tenant, server=endpoint.facts.id, expires=session.expires
        )
    )
    directory.sessions.forget(nonce)


async def set_level(session: Session, level: object, endpoint: Endpoint, directory: Directory) -> None:
    if level not in modern.LOG_LEVELS:
        raise invalid_params(f"The level is one of {', '.join(modern.LOG_LEVELS)}.")
    nonce = session.nonce.hex()
    await directory.in_thread(
        lambda: stored.set_log_level(
            nonce,
            level=str(level),
            tenant=endpoint.facts.tenant,
            server=endpoint.facts.id,
            expires=session.expires,
        )
    )
    directory.sessions.forget(nonce)


def initialized(session: Session, snapshot: Snapshot) -> dict[str, object]:
    return handshake.initialized(session.revision, server=snapshot.info, instructions=snapshot.instructions)
