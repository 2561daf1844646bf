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
        template = RequestTemplate(parsed, Values(variables.get, secrets.get))
    except NotReady as problem:
        return UnreadyTool(problem)
    mask = Mask((*secrets.values(), *template.hidden))
    return HttpTool(parsed, template, mask, upstreams.get(tenant, template.origin))


class UnreadyTool:
    """Answers every call with what is missing."""

    is_immediate = True

    def __init__(self, problem: NotReady) -> None:
        self._problem = problem

    async def call(self, call: ToolCall) -> Outcome:
        return text_outcome(self._problem.sentence, is_error=True, failure=self._problem.failure)


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
        now = asyncio.get_running_loop().time()
        deadline = min(call.deadline, now + self._definition.timeout_seconds)
        try:
            request = self._template.render(call.arguments, deadline - now)
        except ArgumentRefused as refused:
            return text_outcome(str(refused), is_error=True, failure="argument_refused")
        try:
            answer = await exchange(
                self.upstream, self._template.method, request, deadline=deadline, limit=call.answer_bytes
            )
        except CallFailed as failed:
            return text_outcome(
                failed.sentence, is_error=True, failure=failed.failure, retry_after=failed.retry_after
            )
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
    variables: Mapping[str, str],
    secrets_masked: Collection[str] = (),
) -> PreparedRequest:
    """The request that `arguments` would make, with ••• for every secret.

    `secrets_masked` are the names that have a value. Raises ValueError with a sentence for a malformed
    definition, a missing variable and unfit arguments.
    """
    values = Values(variables.get, lambda name: _STAND_IN)
    try:
        template = RequestTemplate(parse(definition), values)
    except NotReady as problem:
        raise ValueError(problem.sentence) from None
    request = template.render(arguments)
    return PreparedRequest(
        template.method,
        _hidden(str(request.url), template),
        {name: _hidden(value, template) for name, value in request.headers.items()},
        "" if request.body is None else request.body.decode("utf-8", "replace"),
        tuple(name for name in values.used_secrets if name not in secrets_masked),
    )


def _hidden(text: str, template: RequestTemplate) -> str:
    for secret in template.hidden:
        text = text.replace(secret, HIDDEN)
    return text
