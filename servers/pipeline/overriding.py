"""Operational switches around a tool: switched off, answering with a mock, or failing on purpose."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from servers.runtimes.base import UNSET, Outcome, ToolBinding, ToolCall, text_outcome

Json = dict[str, Any]
_ORDER = ("mock", "fault", "disable")  # the last is the outermost


@dataclass(frozen=True, slots=True)
class Switch:
    """One `servers.models.Override`. `expires` is in seconds since 1970; 0.0 means never."""

    kind: str
    tool: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    expires: float = 0.0


def overridden(name: str, binding: ToolBinding, switches: Iterable[Switch]) -> ToolBinding:
    """The binding of the tool `name` with what is switched on for it; itself when nothing is.

    A switch for this tool goes before one of its kind for every tool.
    """
    chosen = {switch.kind: switch for switch in sorted(switches, key=_reach) if switch.tool in ("", name)}
    for kind in _ORDER:
        if kind in chosen:
            binding = _MAKERS[kind](binding, chosen[kind])
    return binding


def _reach(switch: Switch) -> bool:
    return switch.tool != ""


class _Switched(ABC):
    """Steps aside once its switch has expired, so that nothing needs to be loaded again for that."""

    def __init__(self, binding: ToolBinding, switch: Switch) -> None:
        self._binding = binding
        self._expires = switch.expires or float("inf")

    @property
    def is_immediate(self) -> bool:
        return self._binding.is_immediate

    async def call(self, call: ToolCall) -> Outcome:
        if time.time() >= self._expires:
            return await self._binding.call(call)
        return await self._instead(call)

    @abstractmethod
    async def _instead(self, call: ToolCall) -> Outcome:
        """The answer while the switch holds."""


class _Disabled(_Switched):
    async def _instead(self, call: ToolCall) -> Outcome:
        return text_outcome(
            "This tool is switched off for now by those who run it.", is_error=True, failure="tool_disabled"
        )


class _Mocked(_Switched):
    def __init__(self, binding: ToolBinding, switch: Switch) -> None:
        super().__init__(binding, switch)
        content = switch.settings.get("content", [])
        self._outcome = Outcome(content, switch.settings.get("structured", UNSET))

    async def _instead(self, call: ToolCall) -> Outcome:
        return self._outcome


class _Faulty(_Switched):
    def __init__(self, binding: ToolBinding, switch: Switch) -> None:
        super().__init__(binding, switch)
        self._share = float(switch.settings["share"])
        self._seconds = float(switch.settings.get("delay_ms", 0)) / 1000
        self._error: str | None = switch.settings.get("error")

    @property
    def is_immediate(self) -> bool:
        return not self._seconds and super().is_immediate

    async def _instead(self, call: ToolCall) -> Outcome:
        if random.random() >= self._share:
            return await self._binding.call(call)
        if self._seconds:
            await asyncio.sleep(self._seconds)
        if self._error is not None:
            return text_outcome(self._error, is_error=True, failure="fault_injected")
        return await self._binding.call(call)


_MAKERS: dict[str, Callable[[ToolBinding, Switch], ToolBinding]] = {
    "disable": _Disabled,
    "mock": _Mocked,
    "fault": _Faulty,
}
