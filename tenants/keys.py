"""API keys: `moor_` + 32 random base62 characters + a 6-character CRC, and how they are kept.

The checksum lets the gateway drop junk without a look-up and lets secret scanners recognise a leaked key.
"""

from __future__ import annotations

import hmac
import re
import secrets
import zlib

from django.conf import settings

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PATTERN = re.compile(r"moor_[0-9A-Za-z]{38}")
SHOWN = 12


def new_key() -> str:
    body = "".join(secrets.choice(_ALPHABET) for _ in range(32))
    return f"moor_{body}{_checksum(body)}"


def is_well_formed(key: str) -> bool:
    return PATTERN.fullmatch(key) is not None and hmac.compare_digest(_checksum(key[5:37]), key[37:])


def digest_of(key: str) -> str:
    """HMAC-SHA256 under the installation's pepper; a random 190-bit key needs no slow hash."""
    return hmac.digest(settings.KEY_PEPPER.encode(), key.encode(), "sha256").hex()


def _checksum(body: str) -> str:
    value, out = zlib.crc32(body.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        out = _ALPHABET[digit] + out
    return out
