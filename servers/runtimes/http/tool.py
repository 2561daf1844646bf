"""Tools that call an HTTP API."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from servers.runtimes.base import Outcome, ToolBinding, ToolCall, text_outcome
from servers.runtimes.http.answers import outcome
from servers.runtimes.http.definition import HttpDefinition, parse
from servers.runtimes.http.exchange import CallFailed, exchange
from servers.runtimes.http.masking import HIDDEN, Mask
from servers.runtimes.http.placing import ArgumentRefused
from servers.runtimes.http.request import RequestTemplate
from servers.runtimes.http.values import NotReady, Values
from servers.runtimes.upstreams import Upstream, Upstreams

# Stands in for a secret while a preview is encoded: letters only, so that no encoding changes it.
_STAND_IN = "qzSecretStandInzq"


def compile_tool(
    definition: dict[str, Any],
    *,
    variables: Mapping[str, str],
    secrets: Mapping[str, str],
    upstreams: Upstreams,
    tenant: str,
) -> ToolBinding:
    """Make the manifest's `http` object ready to be called. May run on any thread.

    Raises ValueError with a sentence for a definition that can never work. A missing secret or variable does
    not raise: it makes a tool that says so when called, and leaves the others alone.
    """
    parsed = parse(definition)
    try:
        template = RequestTemplate(parsed, Values(variables, secrets))
    except NotReady as problem:
        return UnreadyTool(text_outcome(problem.sentence, is_error=True, failure=problem.failure))
    mask = Mask((*secrets.values(), *template.secrets))
    return HttpTool(parsed, template, mask, upstreams.get(tenant, template.origin))


class UnreadyTool:
    """Answers every call with what is missing."""

    is_immediate = True

    def __init__(self, answer: Outcome) -> None:
        self._answer = answer

    async def call(self, call: ToolCall) -> Outcome:
        return self._answer


class HttpTool:
    is_immediate = False

    def __init__(
        self, definition: HttpDefinition, template: RequestTemplate, mask: Mask, upstream: Upstream
    ) -> None:
        self._definition = definition
        self._template = template
        self._mask = mask
        self.upstream = upstream

    async def call(self, call: ToolCall) -> Outcome:
        try:
            request = self._template.render(call.arguments)
        except ArgumentRefused as refused:
            return text_outcome(str(refused), is_error=True, failure="argument_refused")
        now = asyncio.get_running_loop().time()
        deadline = min(call.deadline, now + self._definition.timeout_seconds)
        try:
            answer = await exchange(
                self.upstream, self._template.method, request, deadline=deadline, limit=call.answer_bytes
            )
        except CallFailed as failed:
            return text_outcome(failed.sentence, is_error=True, failure=failed.failure)
        return outcome(answer, self._definition.response, self._mask, call.request_id)


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """What would be sent, for people to look at. `missing` names secrets that have no value yet."""

    method: str
    url: str
    headers: dict[str, str]
    body: str
    missing: tuple[str, ...] = ()


def preview(
    definition: dict[str, Any],
    arguments: Mapping[str, Any],
    *,
    variables: Mapping[str, str],
    secrets: Collection[str] = (),
) -> PreparedRequest:
    """The request that `arguments` would make, every secret shown as •••. `secrets` are the names that have a value.

    Raises ValueError with a sentence for a malformed definition, a missing variable and unfit arguments.
    """
    asked = _StandIns()
    try:
        template = RequestTemplate(parse(definition), Values(variables, asked))
    except NotReady as problem:
        raise ValueError(problem.sentence) from None
    request = template.render(arguments)
    headers = {name: _hidden(value, template.secrets) for name, value in request.headers.items()}
    body = "" if request.body is None else request.body.decode("utf-8", "replace")
    missing = tuple(name for name in asked.names if name not in secrets)
    return PreparedRequest(
        template.method, _hidden(str(request.url), template.secrets), headers, body, missing
    )


def _hidden(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


class _StandIns(dict[str, str]):
    """Has a value for every secret, and remembers which were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self.names:
            self.names.append(key)
        return _STAND_IN
