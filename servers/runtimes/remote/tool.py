"""Tools, resources and prompts of an upstream, made ready to be called."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from servers.protocol.errors import ProtocolError
from servers.protocol.headers import MirroredParameter
from servers.runtimes.base import UNSET, Listener, Outcome, ToolCall
from servers.runtimes.remote.asking import Json
from servers.runtimes.remote.calling import Caller
from servers.runtimes.remote.endpoint import SHARED, Identity
from servers.runtimes.remote.failures import CallFailed
from servers.runtimes.remote.results import Completion, PromptAnswer, Reading, protocol_error

TIMEOUT_SECONDS = 30.0
# Identities that a binding keeps ready.
_SCOPES = 1_000


class Masking(Protocol):
    """Hides the secrets that an upstream echoes."""

    def text(self, text: str) -> str: ...

    def json(self, value: Any, text: str) -> tuple[Any, str]:
        """A JSON value and its compact text, without the secrets."""


@dataclass(frozen=True, slots=True)
class RemoteCall:
    """One request for a resource, prompt or completion; the members are those of ToolCall."""

    deadline: float
    answer_bytes: int
    principal: str = ""
    session: str = ""


class _Binding:
    def __init__(
        self,
        client: Caller,
        *,
        seconds: float = TIMEOUT_SECONDS,
        masking: Masking | None = None,
        identity: Identity = SHARED,
    ) -> None:
        """`seconds` bounds a call beside its own deadline."""
        self.client = client
        self._seconds = seconds
        self._masking = masking
        self._identity = identity
        self._identities: dict[tuple[str, str], Identity] = {}

    def _deadline(self, deadline: float) -> float:
        return min(deadline, asyncio.get_running_loop().time() + self._seconds)

    def _as(self, call: ToolCall | RemoteCall) -> Identity:
        """Whose call it is, as far as the upstream keeps callers apart or is told of them."""
        scope = self.client.scope_of(call.principal, call.session)
        caller = call.principal if self.client.is_told_callers else ""
        if not (scope or caller):
            return self._identity
        identity = self._identities.get((scope, caller))
        if identity is None:
            if len(self._identities) >= _SCOPES:
                self._identities.clear()
            identity = replace(self._identity, scope=scope, caller=caller)
            self._identities[scope, caller] = identity
        return identity

    def _hidden(self, value: Any) -> Any:
        if self._masking is None:
            return value
        return self._masking.json(value, msgspec.json.encode(value).decode())[0]

    def _error(self, error: ProtocolError) -> ProtocolError:
        if self._masking is not None:
            error.message = self._masking.text(error.message)
        return error


class RemoteTool(_Binding):
    """`name` is the upstream's. `is_idempotent` lets a call be repeated when it is not known whether it arrived;
    `mirrored` are the annotated properties of the upstream's own input schema.
    """

    is_immediate = False

    def __init__(
        self,
        client: Caller,
        name: str,
        *,
        is_idempotent: bool = False,
        mirrored: tuple[MirroredParameter, ...] = (),
        seconds: float = TIMEOUT_SECONDS,
        masking: Masking | None = None,
        identity: Identity = SHARED,
    ) -> None:
        super().__init__(client, seconds=seconds, masking=masking, identity=identity)
        self._name = name
        self._is_idempotent = is_idempotent
        self._mirrored = mirrored

    async def call(self, call: ToolCall) -> Outcome:
        """Raises ProtocolError for what the upstream refuses as one: no such tool, unfit arguments."""
        try:
            outcome = await self.client.call_tool(
                self._name,
                call.arguments,
                deadline=self._deadline(call.deadline),
                limit=call.answer_bytes,
                is_idempotent=self._is_idempotent,
                mirrored=self._mirrored,
                identity=self._as(call),
                listener=self._listener_of(call),
            )
        except ProtocolError as error:
            raise self._error(error) from None
        if self._masking is None:
            return outcome
        structured = outcome.structured if outcome.structured is UNSET else self._hidden(outcome.structured)
        return replace(outcome, content=self._hidden(outcome.content), structured=structured)

    def _listener_of(self, call: ToolCall) -> Listener | None:
        if call.listener is None or self._masking is None:
            return call.listener
        return _Masked(call.listener, self._masking)


@dataclass(frozen=True, slots=True)
class _Masked:
    """A listener who hears no secrets."""

    listener: Listener
    masking: Masking

    @property
    def wants_progress(self) -> bool:
        return self.listener.wants_progress

    @property
    def log_level(self) -> str:
        return self.listener.log_level

    async def progress(self, progress: float, total: float | None = None, message: str = "") -> None:
        await self.listener.progress(progress, total, self.masking.text(message))

    async def log(self, level: str, data: Any, logger: str = "") -> None:
        hidden, _ = self.masking.json(data, msgspec.json.encode(data).decode())
        await self.listener.log(level, hidden, self.masking.text(logger))


class RemoteResources(_Binding):
    """Any resource of an upstream, by the upstream's address of it."""

    async def read(self, uri: str, call: RemoteCall) -> Reading:
        """Raises ProtocolError; a missing resource has the reason `resource_not_found`."""
        try:
            reading = await self.client.read_resource(
                uri,
                deadline=self._deadline(call.deadline),
                limit=call.answer_bytes,
                identity=self._as(call),
            )
        except CallFailed as failed:
            raise self._error(protocol_error(failed, uri=uri)) from None
        return reading if self._masking is None else replace(reading, contents=self._hidden(reading.contents))


class RemotePrompt(_Binding):
    """`name` is the upstream's."""

    def __init__(
        self,
        client: Caller,
        name: str,
        *,
        seconds: float = TIMEOUT_SECONDS,
        masking: Masking | None = None,
        identity: Identity = SHARED,
    ) -> None:
        super().__init__(client, seconds=seconds, masking=masking, identity=identity)
        self._name = name

    async def get(self, arguments: Mapping[str, str], call: RemoteCall) -> PromptAnswer:
        """Raises ProtocolError."""
        try:
            answer = await self.client.get_prompt(
                self._name,
                arguments,
                deadline=self._deadline(call.deadline),
                limit=call.answer_bytes,
                identity=self._as(call),
            )
        except CallFailed as failed:
            raise self._error(protocol_error(failed)) from None
        if self._masking is None:
            return answer
        hidden = self._masking.text(answer.description)
        return replace(answer, messages=self._hidden(answer.messages), description=hidden)


class RemoteCompletions(_Binding):
    """Proposals for arguments of the upstream's prompts and variables of its templates."""

    async def complete(
        self, reference: Json, argument: Json, context: Json | None, call: RemoteCall
    ) -> Completion:
        """Raises ProtocolError. `reference` and the others are in the upstream's own names."""
        try:
            found = await self.client.complete(
                reference,
                argument,
                context,
                deadline=self._deadline(call.deadline),
                limit=call.answer_bytes,
                identity=self._as(call),
            )
        except CallFailed as failed:
            raise self._error(protocol_error(failed)) from None
        return found if self._masking is None else replace(found, values=self._hidden(found.values))
