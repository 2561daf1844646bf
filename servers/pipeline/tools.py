"""tools/call: resolve, validate, run, check."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from servers import schemas
from servers.pipeline.parts import Tool
from servers.pipeline.snapshot import Snapshot
from servers.protocol import modern
from servers.protocol.errors import ProtocolError, invalid_params
from servers.protocol.headers import first_mismatch
from servers.runtimes.alarms import TimeLimit
from servers.runtimes.base import UNSET, Listener, Outcome, ToolCall, text_outcome


def resolve(params: Mapping[str, Any], snapshot: Snapshot) -> Tool:
    name = params.get("name")
    tool = snapshot.tools.get(name) if isinstance(name, str) else None
    if tool is None:
        raise ProtocolError(
            -32602, f"There is no tool {str(name)[:128]!r} on this server.", reason="unknown_tool"
        )
    return tool


def arguments_of(params: Mapping[str, Any]) -> dict[str, Any]:
    arguments = params.get("arguments")
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise invalid_params("The arguments of a tool are an object.")
    return arguments


def check_mirrored(tool: Tool, arguments: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    if tool.mirrored and (problem := first_mismatch(tool.mirrored, arguments, headers)):
        raise modern.header_parameter_mismatch(problem)


def validated(tool: Tool, arguments: Mapping[str, Any]) -> Outcome | None:
    """None when the arguments fit; else the answer that says what to mend."""
    if tool.validator.is_valid(arguments):
        return None
    problems = schemas.problems(tool.validator, arguments)
    return text_outcome(
        "The arguments do not fit this tool: " + "; ".join(problems) + ".",
        is_error=True,
        failure="invalid_arguments",
    )


async def run(
    tool: Tool,
    arguments: Mapping[str, Any],
    *,
    answer_bytes: int,
    request_id: str,
    principal: str,
    session: str = "",
    listener: Listener | None = None,
) -> Outcome:
    """The tool's answer, checked against its output schema. The deadline holds even for a runtime that ignores it."""
    deadline = asyncio.get_running_loop().time() + tool.seconds
    call = ToolCall(arguments, deadline, answer_bytes, request_id, principal, session, listener)
    if tool.binding.is_immediate:
        outcome = await tool.binding.call(call)
    else:
        try:
            with TimeLimit(deadline + 1.0):
                outcome = await tool.binding.call(call)
        except TimeoutError:
            return text_outcome(
                f"The tool did not answer within {tool.seconds:g} s.",
                is_error=True,
                failure="upstream_timeout",
            )
    return _checked(tool, outcome)


def _checked(tool: Tool, outcome: Outcome) -> Outcome:
    validator = tool.output_validator
    if validator is None or outcome.is_error:
        return outcome
    if outcome.structured is UNSET:
        why = "it has no structured content"
    elif validator.is_valid(outcome.structured):
        return outcome
    else:
        why = "; ".join(schemas.problems(validator, outcome.structured))
    return text_outcome(
        f"The answer does not fit the tool's output schema: {why}.", is_error=True, failure="invalid_output"
    )
