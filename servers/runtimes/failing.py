"""A tool that cannot run: it answers every call with why, so that the others still work."""

from __future__ import annotations

from servers.runtimes.base import Outcome, ToolCall, text_outcome


class FailingTool:
    is_immediate = True

    def __init__(self, failure: str, sentence: str) -> None:
        self._outcome = text_outcome(sentence, is_error=True, failure=failure)

    async def call(self, call: ToolCall) -> Outcome:
        return self._outcome
