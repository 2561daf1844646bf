"""The data plane's ASGI application: Streamable HTTP of every revision on one URL per server."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from functools import lru_cache

import msgspec
from django.conf import settings

from mooring.errors import ClientError, MooringError, NotFound, Unauthenticated, Unavailable
from mooring.proxies import believed
from servers.gateway import batches, dispatch, refusals
from servers.gateway.answering import JSON, TEXT, Header, send_answer, sent_directly
from servers.gateway.client import Client
from servers.gateway.direct import Direct, direct_of
from servers.gateway.plane import Plane
from servers.gateway.request import Disconnected, Receive, Scope, Send, forwarded_for, wanted_headers
from servers.pipeline import metrics
from servers.pipeline.admit import admit
from servers.pipeline.authenticate import admit_principal, authenticate
from servers.pipeline.call import Call
from servers.pipeline.directory import Endpoint
from servers.pipeline.principals import Principal
from servers.protocol import envelope as envelopes
from servers.runtimes import hops

_PATH = re.compile(
    r"/t/([a-z0-9][a-z0-9-]{0,62})/([a-z0-9][a-z0-9-]{0,62})(?:@([A-Za-z0-9][A-Za-z0-9.+-]{0,62}))?/mcp"
)
_METADATA = "/.well-known/oauth-protected-resource"
# Paths whose parts are remembered; taking one apart costs as much as reading a message. None that is served is longer.
_PATHS, _LONGEST_PATH = 10_000, 320


class Gateway:
    """`plane` is set by the lifespan; before that every request is answered with 503."""

    def __init__(self) -> None:
        self.plane: Plane | None = None
        # Each look into Django's settings takes a microsecond.
        self._hosts, self._proxies = settings.HOSTS, settings.TRUSTED_PROXIES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, duplicated = wanted_headers(scope["headers"])
        path, plane, verb = scope["path"], self.plane, scope["method"]
        target = _target_of(path) if len(path) <= _LONGEST_PATH else None
        if headers.get("host", "") not in self._hosts:
            return await _plain(send, refusals.Misdirected("This host name is not served here."))
        if target is None or plane is None:
            return await _plain(send, NotFound() if target is None else _starting())
        tenant, server, selector, is_metadata = target
        address = (scope.get("client") or ("",))[0]
        if self._proxies:
            address = believed(address, forwarded_for(scope["headers"]), self._proxies)
        call = Call(tenant, server, selector, headers, address, duplicated)
        if is_metadata:
            return await _send_metadata(plane, call, send, verb)
        if verb == "GET" and _wants_page(headers):
            where = f"/s/{call.tenant_slug}/{call.server_slug}".encode()
            return await send_answer(send, 303, b"", [(b"location", where)], kind=TEXT)
        metrics.active.number += 1
        try:
            await _Exchange(plane, call, verb, receive, send, direct_of(scope)).run()
        except Disconnected:
            pass  # nobody is left to answer
        finally:
            metrics.active.number -= 1
        return None


class _Exchange:
    """One HTTP request from its head to its answer."""

    __slots__ = ("body", "call", "client", "direct", "is_batch", "plane", "send", "slot", "verb")

    def __init__(
        self, plane: Plane, call: Call, verb: str, receive: Receive, send: Send, direct: Direct | None
    ) -> None:
        self.plane = plane
        self.call = call
        self.verb = verb
        self.client = Client(receive, send)
        self.send = send
        self.direct = direct
        self.body = b""
        self.slot = ""
        self.is_batch = False  # whose messages are admitted and noted each for itself

    async def run(self) -> None:
        """The one place where errors of a call become answers."""
        call = self.call
        try:
            status, body, headers = await self._answer()
            kind = JSON
        except (Disconnected, asyncio.CancelledError):
            call.status, call.code = "refused", "cancelled"
            if not self.is_batch:
                self.plane.note(call, is_admitted=bool(self.slot))
            raise
        except Exception as error:  # noqa: BLE001  # the border
            status, body, headers, kind = refusals.of(
                error, call, self._terms(), challenge=_metadata_url(call)
            )
        finally:
            if self.slot:
                self.plane.quotas.release(self.slot)
            self.plane.bodies.release(len(self.body))
            if self.client.events is not None:
                self.client.events.close()
        call.answer_bytes = len(body) + self.client.heard_bytes
        if not self.is_batch:
            self.plane.note(call, is_admitted=bool(self.slot))
        if self.client.events is not None and self.client.events.has_begun:
            return await self.client.events.end(body)
        headers = [*headers, (b"x-request-id", call.request_id.encode())]
        if not sent_directly(self.direct, status, body, headers, kind=kind):
            await send_answer(self.send, status, body, headers, kind=kind, accepted=call.headers)

    def _terms(self) -> refusals.Terms:
        call = self.call
        identifier: int | str | None = None
        if call.envelope is not None:
            identifier = None if call.envelope.id is msgspec.UNSET else call.envelope.id
        elif self.body:
            identifier = envelopes.readable_id(self.body)
        return {
            "revision": call.revision or refusals.revision_of(call.headers),
            "request": identifier,
            "request_id": call.request_id,
        }

    async def _answer(self) -> tuple[int, bytes, list[Header]]:
        endpoint, principal = await self._enter()
        if self.verb == "DELETE":
            self.slot = await admit(self.call, endpoint, principal, self.plane.quotas, self.plane.journal)
            return await dispatch.end(self.call, endpoint, principal, self.plane.directory, self.plane.sealer)
        if self.verb != "POST":
            raise refusals.NotAllowed("Send messages with POST.")
        _check_media(self.call.headers)
        limit = endpoint.facts.limits.request_bytes
        self.body = await self.plane.bodies.read(
            self.client.receive, self.call.headers, limit, direct=self.direct
        )
        self.call.request_bytes = len(self.body)
        try:
            envelope = self.call.envelope = envelopes.read(self.body)
        except envelopes.BatchReceived:
            return await self._answer_batch(endpoint, principal)
        self.call.method = str(envelope.method)
        behind = _hops_of(self.call.headers)
        began = time.perf_counter()
        self.slot = await admit(self.call, endpoint, principal, self.plane.quotas, self.plane.journal)
        metrics.note_admitting(time.perf_counter() - began)
        work = dispatch.answer(
            self.call, envelope, endpoint, principal, self.plane.directory, self.plane.sealer, self.client
        )
        return await (hops.after(behind, work) if behind else work)

    async def _answer_batch(self, endpoint: Endpoint, principal: Principal) -> dispatch.Answer:
        batch = await batches.received(
            self.plane, self.call, self.body, endpoint, principal, self.client.receive
        )
        behind = _hops_of(self.call.headers)
        self.is_batch = True
        return await hops.after(behind, batch.answer())

    async def _enter(self) -> tuple[Endpoint, Principal]:
        call, directory = self.call, self.plane.directory
        _check_origin(call.headers)
        key = (call.tenant_slug, call.server_slug)
        endpoint = directory.endpoints.peek(key) or await directory.endpoint(*key)
        principal = admit_principal(call, endpoint, await authenticate(call, directory))
        if endpoint is None:
            raise Unauthenticated("This endpoint needs a key.")  # admit_principal has raised already
        call.endpoint, call.principal = endpoint, principal
        metrics.note_authenticating(time.perf_counter() - call.started)
        return endpoint, principal


@lru_cache(_PATHS)
def _target_of(path: str) -> tuple[str, str, str, bool] | None:
    """Tenant, server and selector of a path, and whether their metadata is meant; None when it is no endpoint's."""
    is_metadata = path.startswith(_METADATA)
    match = _PATH.fullmatch(path[len(_METADATA) :] if is_metadata else path)
    return None if match is None else (match[1], match[2], match[3] or "", is_metadata)


def _check_origin(headers: Mapping[str, str]) -> None:
    origin = headers.get("origin")
    if origin is not None and origin != settings.ORIGIN:
        raise refusals.BadOrigin("Requests from this origin are not allowed.")


def _check_media(headers: Mapping[str, str]) -> None:
    kind = headers.get("content-type", "")
    if kind != "application/json" and kind.partition(";")[0].strip().lower() != "application/json":
        raise refusals.UnsupportedMedia("Send the message as Content-Type: application/json.")
    accept = headers.get("accept", "*/*")
    if "application/json" not in accept and "*/*" not in accept and "application/*" not in accept:
        raise refusals.NotAcceptable("Accept must name application/json and text/event-stream.")


def _hops_of(headers: Mapping[str, str]) -> int:
    """How many installations the request has come through. Raises `LoopDetected` (508) when it is in a circle."""
    said = headers.get("mooring-hops")
    if said is None:
        return 0
    if not re.fullmatch("[0-9]{1,3}", said):
        raise ClientError("Mooring-Hops must be a number, or be left out.", code="bad_hops")
    if int(said) > hops.MOST:
        raise refusals.LoopDetected(
            f"This request has come through {said} servers, and {hops.MOST} is the most: "
            "one of them calls itself, by way of the others. Look at where its tools and upstreams point."
        )
    return int(said)


def _wants_page(headers: Mapping[str, str]) -> bool:
    accept = headers.get("accept", "")
    return "text/html" in accept and "text/event-stream" not in accept


def _metadata_url(call: Call) -> str:
    selector = f"@{call.selector}" if call.selector else ""
    return f"{settings.ORIGIN}{_METADATA}/t/{call.tenant_slug}/{call.server_slug}{selector}/mcp"


async def _send_metadata(plane: Plane, call: Call, send: Send, verb: str) -> None:
    """RFC 9728. Private and missing endpoints answer alike; a public one needs no token, so it has none."""
    if verb != "GET":
        return await _plain(send, refusals.NotAllowed("This document is read with GET."))
    try:
        endpoint = await plane.directory.endpoint(call.tenant_slug, call.server_slug)
    except MooringError as error:
        return await _plain(send, error)
    if endpoint is not None and endpoint.facts.is_public and not call.is_draft:
        return await _plain(send, NotFound("This server is public; it asks for no token."))
    resource = _metadata_url(call).replace(_METADATA, "", 1)
    document = {
        "resource": resource,
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["servers:call"],
    }
    allow_all = [(b"access-control-allow-origin", b"*")]
    return await send_answer(send, 200, msgspec.json.encode(document), allow_all)


async def _plain(send: Send, error: MooringError) -> None:
    await send_answer(send, error.status, error.message.encode(), kind=TEXT)


def _starting() -> Unavailable:
    return Unavailable("Starting. Try again in a moment.")


gateway = Gateway()
