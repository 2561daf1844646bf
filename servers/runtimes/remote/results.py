"""What upstreams answer, as types; and what becomes of their refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from yarl import URL

from servers.protocol.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    MISSING_CAPABILITY,
    RESOURCE_NOT_FOUND,
    ProtocolError,
    invalid_params,
)
from servers.protocol.handshake import session_over
from servers.runtimes.base import UNSET, Outcome, text_outcome
from servers.runtimes.breaker import Verdict
from servers.runtimes.remote.asking import Json
from servers.runtimes.remote.bounds import COMPLETIONS
from servers.runtimes.remote.failures import CallFailed, ClientSessionEnded, Refused, invalid, legible
from servers.runtimes.remote.messages import Reply

URL_ELICITATION = -32042  # 2025-11-25 only

_STATUS = {
    "upstream_timeout": 504,
    "upstream_unavailable": 503,
    "upstream_busy": 503,
    "argument_refused": 400,
    "code_needs_session": 400,
}


class _Result(msgspec.Struct, rename="camel", gc=False):
    result_type: str = "complete"
    input_requests: Any = None


class ToolResult(_Result, rename="camel", gc=False):
    content: list[Json] = []
    structured_content: Any = msgspec.UNSET
    is_error: bool = False


class ResourceResult(_Result, rename="camel", gc=False):
    contents: list[Json] = []
    ttl_ms: Any = None
    cache_scope: Any = None


class PromptResult(_Result, rename="camel", gc=False):
    messages: list[Json] = []
    description: str | None = None


class Values(msgspec.Struct, rename="camel", gc=False):
    values: list[str] = []
    total: int | None = None
    has_more: bool | None = None


class CompletionResult(_Result, rename="camel", gc=False):
    completion: Values = msgspec.field(default_factory=Values)


TOOL: msgspec.json.Decoder[Reply[ToolResult]] = msgspec.json.Decoder(Reply[ToolResult])
RESOURCE: msgspec.json.Decoder[Reply[ResourceResult]] = msgspec.json.Decoder(Reply[ResourceResult])
PROMPT: msgspec.json.Decoder[Reply[PromptResult]] = msgspec.json.Decoder(Reply[PromptResult])
COMPLETION: msgspec.json.Decoder[Reply[CompletionResult]] = msgspec.json.Decoder(Reply[CompletionResult])
ANYTHING: msgspec.json.Decoder[Reply[Any]] = msgspec.json.Decoder(Reply[Any])


@dataclass(frozen=True, slots=True)
class Reading:
    """A resource's contents. It may be kept for `ttl_ms`, and shown to everybody when `is_public`.

    `degraded` is as in an `Outcome`.
    """

    contents: list[Json]
    ttl_ms: int = 0
    is_public: bool = False
    degraded: str = ""


@dataclass(frozen=True, slots=True)
class PromptAnswer:
    messages: list[Json]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """At most a hundred values; `total` is the upstream's count, or None."""

    values: list[str]
    total: int | None = None
    has_more: bool = False


# ---- results ---------------------------------------------------------------------------------------------
# Content blocks pass as they are. They are looked at only where the fitting to a client's revision relies on them.


def outcome_of(result: ToolResult) -> Outcome:
    """Raises CallFailed for a result that is none."""
    if result.result_type != "complete":
        raise _not_complete(result)
    for block in result.content:
        kind = block.get("type")
        if not isinstance(kind, str) or (kind == "resource_link" and not isinstance(block.get("uri"), str)):
            raise invalid("The upstream's answer holds a content block without a type or address.")
    structured = result.structured_content
    return Outcome(result.content, UNSET if structured is msgspec.UNSET else structured, result.is_error)


def reading_of(result: ResourceResult) -> Reading:
    if result.result_type != "complete":
        raise _not_complete(result)
    for part in result.contents:
        body = part.get("text", part.get("blob"))
        if not isinstance(part.get("uri"), str) or not isinstance(body, str):
            raise invalid(
                "The upstream's answer holds a content without an address, or with neither text nor blob."
            )
    ttl = result.ttl_ms
    is_ttl = isinstance(ttl, int) and not isinstance(ttl, bool) and ttl > 0
    return Reading(result.contents, ttl if is_ttl else 0, result.cache_scope == "public")


def prompt_of(result: PromptResult) -> PromptAnswer:
    if result.result_type != "complete":
        raise _not_complete(result)
    for message in result.messages:
        content = message.get("content")
        if not isinstance(message.get("role"), str) or not isinstance(content, dict):
            raise invalid("The upstream's answer holds a message without a role or content.")
    return PromptAnswer(result.messages, result.description or "")


def completion_of(result: CompletionResult) -> Completion:
    if result.result_type != "complete":
        raise _not_complete(result)
    found = result.completion
    is_cut = len(found.values) > COMPLETIONS
    return Completion(found.values[:COMPLETIONS], found.total, bool(found.has_more) or is_cut)


def _not_complete(result: _Result) -> CallFailed:
    if result.result_type != "input_required":
        named = legible(result.result_type)[:40]
        return invalid(f"The upstream answered in a way that was not asked for: {named!r}.")
    asked = result.input_requests if isinstance(result.input_requests, dict) else {}
    if not asked:
        return CallFailed(
            "input_required", "The upstream is not ready yet. Try again later.", Verdict.SUCCEEDED
        )
    named = "; ".join(_asked(request) for request in list(asked.values())[:5])
    return CallFailed(
        "input_required",
        f"The upstream wants something of the user that cannot be passed on: {named}.",
        Verdict.SUCCEEDED,
    )


def _asked(request: Any) -> str:
    method = request.get("method") if isinstance(request, dict) else None
    params = request.get("params") if isinstance(request, dict) else None
    message = params.get("message") if isinstance(params, dict) else None
    said = f" “{legible(message)[:300]}”" if isinstance(message, str) else ""
    return f"{legible(str(method))[:60]}{said}"


# ---- refusals --------------------------------------------------------------------------------------------


def failed_tool(failed: CallFailed) -> Outcome:
    """The answer to give for a failed call. Raises ProtocolError for a refusal that is one towards our client too, and
    for the end of our client's session.
    """
    if isinstance(failed, ClientSessionEnded):
        raise session_over(failed.failure, failed.sentence)
    if isinstance(failed, Refused):
        return _refused_tool(failed)
    return text_outcome(
        failed.sentence, is_error=True, failure=failed.failure, retry_after=failed.retry_after
    )


def _refused_tool(refused: Refused) -> Outcome:
    code, data = refused.error.code, refused.error.data
    if code == INVALID_PARAMS:
        raise invalid_params(legible(refused.error.message) or "The upstream refuses the arguments.")
    if code == MISSING_CAPABILITY:
        return _failure(
            "missing_capability", f"The upstream needs a client that can do {_capabilities(data)}."
        )
    if code == HEADER_MISMATCH:
        return _failure(
            "definition_changed",
            "The upstream's definition of this tool has changed. Look at it and accept the change.",
        )
    if code == URL_ELICITATION:
        return _failure("input_required", f"{legible(refused.error.message)} {_links(data)}".strip())
    return _failure(refused.failure, refused.sentence)


def _failure(failure: str, sentence: str) -> Outcome:
    return text_outcome(sentence, is_error=True, failure=failure)


def _capabilities(data: Any) -> str:
    required = data.get("requiredCapabilities") if isinstance(data, dict) else None
    names = list(required)[:5] if isinstance(required, dict) else []
    return ", ".join(legible(name)[:60] for name in names) or "more than this one"


def _links(data: Any) -> str:
    """The pages that an upstream wants the user to open, each as text and never opened here."""
    asked = data.get("elicitations") if isinstance(data, dict) else None
    links = [one.get("url") for one in asked[:5] if isinstance(one, dict)] if isinstance(asked, list) else []
    return " ".join(legible(link) for link in links if isinstance(link, str) and _is_web(link))


def _is_web(link: str) -> bool:
    try:
        return URL(link).scheme in ("http", "https")
    except ValueError:
        return False


def protocol_error(failed: CallFailed, *, uri: str | None = None) -> ProtocolError:
    """How a failure is said where there is no room for an Outcome: resources, prompts, completion.

    `uri` is the resource's own address as our client knows it; a missing one has the reason `resource_not_found`.
    """
    if isinstance(failed, ClientSessionEnded):
        return session_over(failed.failure, failed.sentence)
    if isinstance(failed, Refused):
        error = failed.error
        is_missing = error.code == RESOURCE_NOT_FOUND or (
            error.code == INVALID_PARAMS and isinstance(error.data, dict) and "uri" in error.data
        )
        if uri is not None and is_missing:
            return ProtocolError(
                INVALID_PARAMS,
                f"There is no resource {uri[:200]!r}.",
                data={"uri": uri},
                reason="resource_not_found",
            )
        if error.code == INVALID_PARAMS:
            return invalid_params(legible(error.message) or "The upstream refuses the request.")
    status = 503 if failed.is_local else _STATUS.get(failed.failure, 502)
    kind = "server" if failed.is_local else "client" if status == 400 else "external"
    again = failed.retry_after
    return ProtocolError(
        status,
        failed.sentence,
        data={"code": failed.failure, "class": kind} | ({"retryAfter": again} if again else {}),
        http=status,
        reason=failed.failure,
        headers=((b"retry-after", str(again).encode()),) if again else (),
    )
