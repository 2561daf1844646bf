"""The answer of a tool, in the shapes of the newest revision; `content.py` fits it to the client's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal


class _Unset(Enum):
    UNSET = "unset"


UNSET: Final = _Unset.UNSET
Structured = Any | Literal[_Unset.UNSET]


@dataclass(slots=True)  # not frozen: that makes each one cost a microsecond more, and there is one a call
class Outcome:
    """Answer of a tool, in the shapes of the newest revision; `protocol` fits it to the client's.

    `content` holds MCP content blocks. `structured` is any JSON value, or UNSET. `failure` is "" or a stable code
    for the record of the call (`upstream_timeout`, `secret_missing`, …); a failure is always an error too.
    `degraded` is "" or a sentence on why this answer is not as good as it should be. `retry_after` is in seconds;
    0 says nothing about trying again.
    """

    content: list[dict[str, Any]]
    structured: Structured = UNSET
    is_error: bool = False
    failure: str = ""
    degraded: str = ""
    retry_after: int = 0


def text_outcome(text: str, *, is_error: bool = False, failure: str = "", retry_after: int = 0) -> Outcome:
    content = [{"type": "text", "text": text}]
    return Outcome(content, is_error=is_error, failure=failure, retry_after=retry_after)
