"""Identifiers that sort by time: UUID version 7 (RFC 9562, 5.7). Python has none before 3.14."""

from __future__ import annotations

import os
import time
import uuid
from datetime import datetime


def uuid7() -> uuid.UUID:
    """48 bits of milliseconds, 12 bits of their fraction (6.2, method 3), then 62 random bits.

    Those that a process makes one after the other sort in that order, which rows of one list rely on.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8)) >> 2
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | random)


def least_uuid7(moment: datetime) -> uuid.UUID:
    """No identifier made at `moment` or later is less than this one."""
    return uuid.UUID(int=int(moment.timestamp() * 1_000) << 80 | 7 << 76 | 2 << 62)
