"""Reading one JSON-RPC message from the bytes of a body."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from servers.protocol.errors import INVALID_REQUEST, PARSE, ProtocolError

MAX_DEPTH = 64
_MAX_ID = 256


class Envelope(msgspec.Struct, gc=False):
    """A request has `method` and `id`, a notification only `method`; the last of duplicate keys wins."""

    jsonrpc: str
    method: str | UnsetType = UNSET
    id: int | str | UnsetType = UNSET
    params: dict[str, Any] | UnsetType = UNSET

    @property
    def is_request(self) -> bool:
        return self.id is not UNSET


class BatchReceived(ProtocolError):
    """An array where one message was looked for. Only 2025-03-26 has those; to others this is the answer."""

    def __init__(self) -> None:
        super().__init__(INVALID_REQUEST, "Batches are not accepted here; send one message a request.")


_envelope = msgspec.json.Decoder(Envelope)
_array = msgspec.json.Decoder(list[msgspec.Raw])
_anything = msgspec.json.Decoder()


def read(body: bytes) -> Envelope:
    """Parse a single message.

    Raises `ProtocolError`: -32700 when it is not JSON, -32600 when it is not a request or notification, is a
    batch, or is nested deeper than 64 (`readable_id` finds the id for the answer).
    """
    try:
        envelope = _envelope.decode(body)
    except msgspec.ValidationError:
        raise _not_a_message(body) from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise ProtocolError(PARSE, "The body is not JSON that can be read.") from None
    # Counting brackets is a cheap upper bound; only a suspicious body is walked.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _depth(envelope.params) > MAX_DEPTH - 1:
        raise ProtocolError(INVALID_REQUEST, f"The message is nested deeper than {MAX_DEPTH} levels.")
    if envelope.jsonrpc != "2.0" or envelope.method is UNSET:
        raise _not_a_message(body)
    if isinstance(envelope.id, str) and len(envelope.id) > _MAX_ID:
        raise ProtocolError(INVALID_REQUEST, f"The id is longer than {_MAX_ID} characters.")
    return envelope


def read_batch(body: bytes, most: int) -> list[Envelope]:
    """The messages of an array (2025-03-26, basic/index#batches).

    Raises `ProtocolError` -32600 for an empty one, for more than `most`, and when one of them is no request or
    notification, or is `initialize`: then none of them is answered, so that nothing was done by halves.
    """
    try:
        items = _array.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise ProtocolError(PARSE, "The body is not JSON that can be read.") from None
    if not 1 <= len(items) <= most:
        raise ProtocolError(
            INVALID_REQUEST, f"A batch holds 1 to {most} messages; this one has {len(items)}."
        )
    batch = [read(bytes(item)) for item in items]
    if any(envelope.method == "initialize" for envelope in batch):
        raise ProtocolError(INVALID_REQUEST, "initialize is sent by itself, not in a batch.")
    return batch


def _is_array(body: bytes) -> bool:
    """By its first character: to decode it would take a thousand times as long as one message does."""
    return body.lstrip(b" \t\r\n")[:1] == b"["


def _not_a_message(body: bytes) -> ProtocolError:
    if _is_array(body):
        return BatchReceived()
    try:
        value = _anything.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return ProtocolError(PARSE, "The body is not JSON that can be read.")
    if isinstance(value, dict) and "method" not in value and ("result" in value or "error" in value):
        return ProtocolError(
            INVALID_REQUEST, "No answer of yours is awaited here; send a request or notification."
        )
    return ProtocolError(
        INVALID_REQUEST,
        'Not a JSON-RPC 2.0 message: it needs "jsonrpc": "2.0", a "method", a text or whole-number "id" for a '
        'request, and "params" as an object.',
    )


def readable_id(body: bytes) -> int | str | None:
    """The id of a message that could not be taken, so that its error can still be told apart."""
    if _is_array(body):
        return None
    try:
        value = _anything.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    found = value.get("id") if isinstance(value, dict) else None
    is_id = isinstance(found, (int, str)) and not isinstance(found, bool)
    return found if is_id and len(str(found)) <= _MAX_ID else None


def _depth(value: Any) -> int:
    """Nesting of containers, walked without recursion."""
    deepest, stack = 0, [(value, 1)]
    while stack:
        node, level = stack.pop()
        if isinstance(node, dict):
            children: Any = node.values()
        elif isinstance(node, list):
            children = node
        else:
            continue
        deepest = max(deepest, level)
        stack.extend((child, level + 1) for child in children)
    return deepest
