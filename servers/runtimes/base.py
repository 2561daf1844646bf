"""What every runtime gives to the pipeline and gets from it. Nothing here knows Django or a revision of MCP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal, Protocol


class _Unset(Enum):
    UNSET = "unset"


UNSET: Final = _Unset.UNSET
Structured = Any | Literal[_Unset.UNSET]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Answer of a tool, in the shapes of the newest revision; `protocol` fits it to the client's.

    `content` holds MCP content blocks. `structured` is any JSON value, or UNSET. `failure` is "" or a stable code
    for the record of the call (`upstream_timeout`, `secret_missing`, …); a failure is always an error too.
    """

    content: list[dict[str, Any]]
    structured: Structured = UNSET
    is_error: bool = False
    failure: str = ""


def text_outcome(text: str, *, is_error: bool = False, failure: str = "") -> Outcome:
    return Outcome([{"type": "text", "text": text}], is_error=is_error, failure=failure)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of one tool. `deadline` is on the event loop's clock; `answer_bytes` bounds the upstream's body."""

    arguments: Mapping[str, Any]
    deadline: float
    answer_bytes: int
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    state: Literal["healthy", "degraded", "unhealthy"]
    detail: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


class ToolBinding(Protocol):
    """A tool made ready to be called: templates parsed, secrets in place, nothing left to look up."""

    @property
    def is_immediate(self) -> bool:
        """True when `call` never waits, so that nobody need watch for the client going away."""

    async def call(self, call: ToolCall) -> Outcome:
        """Never raises for what an upstream or a caller did wrong; that is an Outcome with `is_error`."""
