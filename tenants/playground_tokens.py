"""Short-lived credentials with which the playground calls `@draft` as an ordinary MCP client."""

from __future__ import annotations

import base64
import binascii
import os
import time
import uuid
from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

PREFIX = "moorplay_"
SECONDS = 60


@dataclass(frozen=True, slots=True)
class Pass:
    """Whom a token speaks for, and the only server it opens. `expires` is in Unix seconds."""

    user: int
    tenant: uuid.UUID
    server: uuid.UUID
    expires: float


def issue(*, user: int, tenant: uuid.UUID, server: uuid.UUID) -> str:
    raw = msgspec.msgpack.encode([user, tenant.bytes, server.bytes, int(time.time()) + SECONDS])
    nonce = os.urandom(12)
    return PREFIX + base64.urlsafe_b64encode(nonce + _key().encrypt(nonce, raw, None)).decode()


def read(token: str) -> Pass | None:
    """None for anything that is not a token of ours which has not expired."""
    try:
        sealed = base64.urlsafe_b64decode(token[len(PREFIX) : 512].encode("ascii"))
        user, tenant, server, expires = msgspec.msgpack.decode(_key().decrypt(sealed[:12], sealed[12:], None))
    except (binascii.Error, UnicodeEncodeError, InvalidTag, ValueError, msgspec.MsgspecError):
        return None
    if expires < time.time():
        return None
    return Pass(user, uuid.UUID(bytes=tenant), uuid.UUID(bytes=server), expires)


def _key() -> AESGCM:
    return AESGCM(
        HKDF(hashes.SHA256(), 32, None, b"mooring playground v1").derive(settings.SECRET_KEY.encode())
    )
