"""JSON-RPC to and from an upstream: written once, and read once into the type that is wanted."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from servers.protocol.errors import METHOD_NOT_FOUND
from servers.runtimes.remote.bounds import BATCH, DEEPEST
from servers.runtimes.remote.failures import CallFailed, Refused, RpcError, invalid, refused_argument

R = TypeVar("R")
Json = dict[str, Any]


class Reply(msgspec.Struct, Generic[R], gc=False):
    """An answer, whose result is of the type that was asked for."""

    id: int | str | None = None
    result: R | UnsetType = UNSET
    error: RpcError | UnsetType = UNSET


class Head(msgspec.Struct, gc=False):
    """As much of any message as tells what to do with it."""

    id: int | str | None = None
    method: str | UnsetType = UNSET
    result: msgspec.Raw | UnsetType = UNSET
    error: msgspec.Raw | UnsetType = UNSET

    @property
    def is_answer(self) -> bool:
        return self.method is UNSET and (self.result is not UNSET or self.error is not UNSET)

    @property
    def is_request(self) -> bool:
        return self.method is not UNSET and self.id is not None


_encode = msgspec.json.Encoder().encode
_head = msgspec.json.Decoder(Head)
_batch = msgspec.json.Decoder(list[msgspec.Raw])
_anything: msgspec.json.Decoder[Reply[Any]] = msgspec.json.Decoder(Reply[Any])


def request(request_id: int, method: str, params: Json) -> bytes:
    """Raises CallFailed for arguments that JSON cannot hold."""
    try:
        return _encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
    except (UnicodeError, OverflowError, RecursionError, TypeError):
        raise refused_argument(
            "An argument holds half a character or a number that JSON cannot carry."
        ) from None


def notification(method: str, params: Json) -> bytes:
    return _encode({"jsonrpc": "2.0", "method": method, "params": params})


def reply_to(asked: Head) -> bytes:
    """What an upstream's request gets: a ping its due, anything else a refusal, since nothing was declared."""
    if asked.method == "ping":
        return _encode({"jsonrpc": "2.0", "id": asked.id, "result": {}})
    error = {"code": METHOD_NOT_FOUND, "message": "This client declared no capabilities."}
    return _encode({"jsonrpc": "2.0", "id": asked.id, "error": error})


def heads(data: bytes) -> list[tuple[Head, bytes]]:
    """The messages in the data of one event: one, or a batch as 2025-03-26 allows. Raises ValueError for none."""
    try:
        if data[:1] != b"[":
            return [(_head.decode(data), data)]
        parts = _batch.decode(data)
        if len(parts) > BATCH:
            raise ValueError("too many in a batch")
        return [(_head.decode(part), bytes(part)) for part in parts]
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from None


def error_in(body: bytes, request_id: int) -> tuple[RpcError | None, bool]:
    """The JSON-RPC error in a refusal's body, and whether it names our request."""
    try:
        reply = _anything.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return None, False
    return (None if reply.error is UNSET else reply.error), reply.id == request_id


def result_of(decoder: msgspec.json.Decoder[Reply[R]], data: bytes, request_id: int) -> R:
    """Raises Refused for a JSON-RPC error, CallFailed for anything that is no answer to the request."""
    try:
        reply = decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as problem:
        raise _unreadable(data, request_id, str(problem)) from None
    result = reply.result
    if result is UNSET or reply.id != request_id:
        raise _no_answer(reply, request_id)
    # Counting brackets is a cheap upper bound; only a suspicious body is walked.
    if data.count(b"[") + data.count(b"{") > DEEPEST and _is_too_deep(result):
        raise invalid(f"The upstream's answer is nested deeper than {DEEPEST} levels.")
    return result


def _no_answer(reply: Reply[Any], request_id: int) -> CallFailed:
    # An error that could not be tied to its request has no id, and there was only one request.
    if reply.error is not UNSET and reply.id in (request_id, None):
        return Refused(reply.error)
    if reply.id != request_id:
        return invalid("The upstream answered something that was not asked.")
    return invalid("The upstream's answer has neither a result nor an error.")


def _unreadable(data: bytes, request_id: int, problem: str) -> CallFailed:
    try:
        reply = _anything.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        return invalid("The upstream's answer is no JSON-RPC message.")
    if reply.result is UNSET or reply.id != request_id:
        return _no_answer(reply, request_id)
    return invalid(f"The upstream's result is not what MCP says it is: {problem}.")


def _is_too_deep(value: Any) -> bool:
    if isinstance(value, msgspec.Struct):
        value = [getattr(value, name) for name in value.__struct_fields__]
    level = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True
