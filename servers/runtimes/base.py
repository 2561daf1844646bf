"""What every runtime gives to the pipeline and gets from it. Nothing here knows Django or a revision of MCP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from servers.protocol.outcome import UNSET, Outcome, Structured, text_outcome

__all__ = ["ANONYMOUS", "UNSET", "Health", "Outcome", "Structured", "ToolBinding", "ToolCall", "text_outcome"]


ANONYMOUS = "anonymous"


class Listener(Protocol):
    """The caller of a tool, as one who may want to hear of it while it runs. Both methods wait while the caller's
    connection takes no more, so whoever tells is slowed down to the speed of the one who listens.
    """

    @property
    def wants_progress(self) -> bool: ...

    @property
    def log_level(self) -> str:
        """The least severe level of log messages that is wanted; "" for none."""

    async def progress(self, progress: float, total: float | None = None, message: str = "") -> None:
        """How far it is, of `total` where that is known. What is no further than before is not told."""

    async def log(self, level: str, data: Any, logger: str = "") -> None:
        """A log message of the tool. `data` is any JSON value."""


@dataclass(slots=True)  # not frozen: that makes each one cost a microsecond more, and there is one a call
class ToolCall:
    """One call of one tool. `deadline` is on the event loop's clock; `answer_bytes` bounds the upstream's body.

    `principal` tells callers apart, for what may not be shared between them, but for those who show no credential
    (`ANONYMOUS`); `session` is the name of the client's session (`protocol.tokens.Session`), where its revision of MCP
    has one. `listener` is None when the client wants to hear of nothing but the answer.
    """

    arguments: Mapping[str, Any]
    deadline: float
    answer_bytes: int
    request_id: str = ""
    principal: str = ""
    session: str = ""
    listener: Listener | None = None


@dataclass(frozen=True, slots=True)
class Health:
    state: Literal["healthy", "degraded", "unhealthy", "unknown"]
    detail: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


class ToolBinding(Protocol):
    """A tool made ready to be called: templates parsed, secrets in place, nothing left to look up."""

    @property
    def is_immediate(self) -> bool:
        """True when `call` never waits, so that nobody need watch for the client going away."""

    async def call(self, call: ToolCall) -> Outcome:
        """Never raises for what an upstream or a caller did wrong; that is an Outcome with `is_error`."""
