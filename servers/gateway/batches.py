"""Batches of revision 2025-03-26: several messages in one body, each a call that is admitted and recorded for itself.

The specification wants a server to take them (basic/index#batches, and basic/transports#sending-messages-to-the-server
there); the revisions after it have none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mooring.errors import TooLarge
from servers.gateway import dispatch, refusals, sessions
from servers.gateway.client import Client
from servers.gateway.plane import Plane
from servers.gateway.request import Receive
from servers.pipeline.admit import admit
from servers.pipeline.call import Call
from servers.pipeline.directory import Endpoint
from servers.pipeline.principals import Principal
from servers.protocol import handshake, modern
from servers.protocol.envelope import BatchReceived, Envelope, read_batch
from servers.protocol.errors import INVALID_REQUEST, ProtocolError
from servers.protocol.revisions import WITH_BATCHES

MOST_MESSAGES = 50
# Messages of one batch that are worked on at a time.
AT_ONCE = 8
# All answers of a batch together. One that does not fit any more is answered with an error.
MOST_ANSWER_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Batch:
    """Messages that came in one body. `call` is that body's, of which each message's is made."""

    plane: Plane
    call: Call
    endpoint: Endpoint
    principal: Principal
    receive: Receive
    messages: list[Envelope]
    answered_bytes: int = 0

    async def answer(self) -> dispatch.Answer:
        """An array of the answers to what wants one, in its order; nothing when nothing does."""
        room = asyncio.Semaphore(AT_ONCE)

        async def answered(envelope: Envelope) -> bytes:
            async with room:
                return await self._answer_one(envelope)

        answers = await asyncio.gather(*map(answered, self.messages))
        said = [body for body in answers if body]
        return (200, b"[" + b",".join(said) + b"]", []) if said else dispatch.ACCEPTED

    async def _answer_one(self, envelope: Envelope) -> bytes:
        """Empty for a notification. Never raises for what is wrong with the message."""
        call, plane = self.call.of_batch(envelope), self.plane
        slot, client = "", Client(self.receive, None)
        try:
            slot = await admit(call, self.endpoint, self.principal, plane.quotas, plane.journal)
            _, body, _ = await dispatch.answer(
                call, envelope, self.endpoint, self.principal, plane.directory, plane.sealer, client
            )
            self._fit(body)
        except asyncio.CancelledError:
            call.status, call.code = "refused", "cancelled"
            plane.note(call, is_admitted=bool(slot))
            raise
        except Exception as error:  # noqa: BLE001  # the border, as for a message by itself
            body = _refused(error, call, envelope)
        finally:
            if slot:
                plane.quotas.release(slot)
        call.answer_bytes = len(body)
        plane.note(call, is_admitted=bool(slot))
        return body

    def _fit(self, body: bytes) -> None:
        if self.answered_bytes + len(body) > MOST_ANSWER_BYTES:
            raise TooLarge("The answers of this batch are too large together. Ask for this one by itself.")
        self.answered_bytes += len(body)


async def received(
    plane: Plane, call: Call, body: bytes, endpoint: Endpoint, principal: Principal, receive: Receive
) -> Batch:
    """Raises `ProtocolError` where the session's revision has no batches, and for one that cannot be taken."""
    if "mcp-session-id" not in call.headers:
        raise BatchReceived
    session = await sessions.current_session(
        call, endpoint, principal, directory=plane.directory, sealer=plane.sealer
    )
    call.revision = session.revision
    if session.revision not in WITH_BATCHES:
        raise BatchReceived
    handshake.check_version_header(call.headers, session.revision)
    messages = read_batch(body, MOST_MESSAGES)
    if any(modern.VERSION in modern.meta_of(message) for message in messages):
        raise ProtocolError(
            INVALID_REQUEST, "Revision 2026-07-28 has no batches; send this message by itself."
        )
    return Batch(plane, call, endpoint, principal, receive, messages)


def _refused(error: Exception, call: Call, envelope: Envelope) -> bytes:
    """An error in the array; a notification is not told of one."""
    identifier = envelope.id if envelope.is_request else None
    terms: refusals.Terms = {
        "revision": call.revision or WITH_BATCHES[0],
        "request": identifier,  # type: ignore[typeddict-item]  # is_request says that it is set
        "request_id": call.request_id,
    }
    _, body, _, _ = refusals.of(error, call, terms)
    return body if envelope.is_request else b""
