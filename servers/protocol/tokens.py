"""Sealed values that travel through clients: handshake sessions and list cursors. Never a credential."""

from __future__ import annotations

import base64
import binascii
import os
import time
import uuid
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from servers.protocol.revisions import SUPPORTED

SESSION_SECONDS = 7 * 24 * 3600
CURSOR_SECONDS = 3600
MAX_TOKEN = 512
# Sessions whose tokens are remembered once they were opened, half a kilobyte each.
MAX_OPENED = 10_000


class InvalidToken(ValueError):
    """Not ours, for another purpose, tampered with, or expired."""


class ExpiredToken(InvalidToken):
    """Ours, and too old."""


class Session(msgspec.Struct, array_like=True, frozen=True):
    """A handshake session (DESIGN 4): who opened it, on which server, speaking which revision."""

    nonce: bytes
    revision: str
    capabilities: int
    principal: str
    server: uuid.UUID
    expires: int
    client: str = ""

    @property
    def name(self) -> str:
        """Tells it apart from all others. Begins with when it was opened, in Unix seconds."""
        return f"{self.expires - SESSION_SECONDS}-{self.nonce.hex()}"


class Cursor(msgspec.Struct, array_like=True, frozen=True):
    """Where the next page of a list begins, for the principal who was given the first, for an hour.

    It is pinned to the version that the first page came from. `expires` is in Unix seconds.
    """

    server: uuid.UUID
    version: str
    kind: str
    offset: int
    principal: str
    expires: int


class Sealer:
    """Seals and opens values under keys derived from the installation's secret, one a purpose."""

    def __init__(self, secret: str) -> None:
        self._session = _key(secret, b"mooring session v1")
        # A client sends the same token with each request, and opening one takes as long as checking a key.
        self._opened: dict[str, Session] = {}
        self._cursor = _key(secret, b"mooring cursor v1")

    def new_session(
        self, *, revision: str, capabilities: int, principal: str, server: uuid.UUID, client: str
    ) -> tuple[str, Session]:
        session = Session(
            os.urandom(16),
            revision,
            capabilities,
            principal,
            server,
            int(time.time()) + SESSION_SECONDS,
            client.encode()[:80].decode(errors="ignore"),
        )
        return _seal(self._session, session), session

    def open_session(self, token: str) -> Session:
        session = self._opened.get(token)
        if session is None:
            session = self._opened[token] = _open(self._session, token, Session)
            if len(self._opened) > MAX_OPENED:
                self._opened.clear()
        if session.expires < time.time() or session.revision not in SUPPORTED:
            raise InvalidToken("The session has ended.")
        return session

    def new_cursor(self, *, server: uuid.UUID, version: str, kind: str, offset: int, principal: str) -> str:
        expires = int(time.time()) + CURSOR_SECONDS
        return _seal(self._cursor, Cursor(server, version, kind, offset, principal, expires))

    def open_cursor(self, token: str) -> Cursor:
        """Raises `ExpiredToken` for an old one, else `InvalidToken`. Whose it is, the caller compares."""
        cursor: Cursor = _open(self._cursor, token, Cursor)
        if cursor.expires < time.time():
            raise ExpiredToken("The cursor has expired.")
        return cursor


def _key(secret: str, purpose: bytes) -> AESGCM:
    return AESGCM(HKDF(hashes.SHA256(), 32, None, purpose).derive(secret.encode()))


def _seal(key: AESGCM, value: Any) -> str:
    nonce = os.urandom(12)
    return base64.urlsafe_b64encode(nonce + key.encrypt(nonce, msgspec.msgpack.encode(value), None)).decode()


def _open(key: AESGCM, token: str, kind: Any) -> Any:
    if len(token) > MAX_TOKEN:
        raise InvalidToken("Too long.")
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii"))
        return msgspec.msgpack.decode(key.decrypt(raw[:12], raw[12:], None), type=kind)
    except (binascii.Error, UnicodeEncodeError, InvalidTag, msgspec.MsgspecError, ValueError):
        raise InvalidToken("Not one of ours.") from None
