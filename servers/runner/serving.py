"""The runner's socket: every instance as an MCP endpoint over Streamable HTTP, and the engine itself as JSON.

    POST   /instances/<key>/mcp                one message in, one JSON answer out
    POST   /instances/<key>/drain, …/stop      {"deadline": seconds} for drain
    GET    /instances/<key>/logs?after=N       lines with a larger number
    GET    /servers/<tenant>/<server>/logs?after=N  those of all its instances
    POST   /keep                               {"digests": […]} → what was removed of the rest
    POST   /missing                            {"digests": […]} → those that cannot be run
    POST   /stand-in                           {"digest": …, "by": …}: run the one where the other is asked for
    GET    /instances?tenant=                  all of them
    GET    /capabilities                       what this machine enforces
    POST   /ensure                             {"spec": …, "session": …, "opened": …} → Endpoint
    POST   /build                              a line of JSON and the upload → its steps (`servers.runner.streaming`)

How a child's stream becomes HTTP:

- A child of 2026-07-28 gets each caller's request as it is, `_meta` and all, and its answer goes back as it is. An
  unknown method is 404 and a broken envelope 400, as that revision asks; other errors travel under 200.
- A child of the handshake was initialized once, when it started, without client capabilities. `initialize` is
  answered with what it said then, no session is made, notifications that belong to a session end here, and so do
  `ping` and `logging/setLevel`, since the process is shared. `server/discover` is 400 with a sentence in plain
  text, which is how a client finds out that it has to shake hands.
- Hanging up cancels the request, in both eras. Answers are never streams; there is no GET.

Refusals of the runner's own are HTTP with `{"error": {"code", "message", "data"}}` (`servers.runner.errors`).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET, Raw, UnsetType

from servers.runner import streaming
from servers.runner.connections import Connection
from servers.runner.engine import KIB, MIB, Digest, RunSpec
from servers.runner.errors import Malformed, Refused, TooLarge, Unauthorized
from servers.runner.hosted import HostedEngine
from servers.runner.relay import Answer
from servers.runner.turns import Turns

# The largest message any limit allows, and room for what surrounds it.
BODY_BYTES = 16 * MIB + 64 * KIB
LONGEST_DRAIN = 300.0
BACKLOG = 128
_METHOD_NOT_FOUND = -32601
_BAD_REQUESTS = frozenset({-32700, -32600, -32020, -32021, -32022})
_TOO_OLD = "This server speaks no revision without a handshake; send initialize."
# Answered here for children of the handshake: they would change, or ask after, what all callers share.
_ENDS_HERE = frozenset({"ping", "logging/setLevel"})

logger = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")


class _Message(msgspec.Struct):
    method: str
    id: int | str | UnsetType = UNSET
    params: Raw = Raw(b"{}")


class _Error(msgspec.Struct):
    code: int = 0


class _Ensure(msgspec.Struct, forbid_unknown_fields=True):
    spec: RunSpec
    session: str = ""
    opened: int = 0


class _Drain(msgspec.Struct, forbid_unknown_fields=True):
    deadline: float | None = None


class _Digests(msgspec.Struct, forbid_unknown_fields=True):
    digests: list[Digest]


class _StandIn(msgspec.Struct, forbid_unknown_fields=True):
    digest: Digest
    by: Digest


_message = msgspec.json.Decoder(_Message)
_error = msgspec.json.Decoder(_Error)
_ensure = msgspec.json.Decoder(_Ensure)
_drain = msgspec.json.Decoder(_Drain)
_digests = msgspec.json.Decoder(_Digests)
_stand_in = msgspec.json.Decoder(_StandIn)


def application(engine: HostedEngine, bearer: str) -> web.Application:
    app = web.Application(middlewares=[_border(bearer)], client_max_size=BODY_BYTES)
    face = _Face(engine)
    app.router.add_post("/instances/{key}/mcp", face.mcp)
    app.router.add_post("/instances/{key}/drain", face.drain)
    app.router.add_post("/instances/{key}/stop", face.stop)
    app.router.add_get("/instances/{key}/logs", face.logs)
    app.router.add_get("/servers/{tenant}/{server}/logs", face.server_logs)
    app.router.add_post("/keep", face.keep)
    app.router.add_post("/missing", face.missing)
    app.router.add_post("/stand-in", face.stand_in)
    app.router.add_get("/instances", face.instances)
    app.router.add_get("/capabilities", face.capabilities)
    app.router.add_post("/ensure", face.ensure)
    app.router.add_post("/build", face.build)
    return app


@asynccontextmanager
async def listening(
    engine: HostedEngine, path: Path, *, bearer: str, group: int | None = None
) -> AsyncIterator[None]:
    """Serve on a socket that only our user, and `group`, may open (0660)."""
    runner = web.AppRunner(
        application(engine, bearer), handler_cancellation=True, access_log=None, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        await web.SockSite(runner, _bound(path, group)).start()
        yield
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


def _bound(path: Path, group: int | None) -> socket.socket:
    """Bound behind a mask, so that the socket is never open to others, not even for a moment."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    if group is not None:
        os.chown(path, -1, group)
    # At once, so that nobody finds the socket there and is refused.
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _border(bearer: str) -> Any:
    """Who is not known is refused, and refusals become answers; anything else that is raised is a bug."""
    expected = f"Bearer {bearer}".encode()

    @web.middleware
    async def border(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, expected):
                raise Unauthorized("Show the bearer of this runner.")
            return await handler(request)
        except Refused as refused:
            return _refused(refused)
        except web.HTTPException:
            raise
        except Exception:  # the border: one request's bug is not the others' end
            logger.exception("The runner failed to answer %s.", request.path)
            return _refused(Refused("The runner failed; its log says why."))

    return border


class _Face:
    def __init__(self, engine: HostedEngine) -> None:
        self._engine = engine
        self._turns = Turns()

    async def mcp(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        seconds, largest = self._engine.limits_of(key)
        if (request.content_length or 0) > largest:
            raise TooLarge(f"A message may have {largest} bytes.")
        message = _decoded(_message, await request.read())
        connection = await self._engine.connected(key)
        if message.id is UNSET:
            return _notified(connection, message)
        if connection.era == "handshake" and (told := _told_here(connection, message)) is not None:
            return told
        answer = await connection.call(message.method, message.params, seconds=seconds)
        return _answered(message.id, answer, is_modern=connection.era == "modern")

    async def ensure(self, request: web.Request) -> web.StreamResponse:
        asked = _decoded(_ensure, await request.read())
        return _json(await self._engine.ensure(asked.spec, asked.session, asked.opened))

    async def build(self, request: web.Request) -> web.StreamResponse:
        return await streaming.build(request, self._engine, self._turns)

    async def drain(self, request: web.Request) -> web.StreamResponse:
        asked = _decoded(_drain, await request.read() or b"{}")
        deadline = None if asked.deadline is None else min(max(asked.deadline, 0.0), LONGEST_DRAIN)
        # Goes on when the caller hangs up: half a drain would leave it refusing calls.
        await asyncio.shield(asyncio.ensure_future(self._engine.drain(request.match_info["key"], deadline)))
        return _json({})

    async def stop(self, request: web.Request) -> web.StreamResponse:
        await asyncio.shield(asyncio.ensure_future(self._engine.stop(request.match_info["key"])))
        return _json({})

    async def logs(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._engine.logs(request.match_info["key"], _number_after(request)))

    async def server_logs(self, request: web.Request) -> web.StreamResponse:
        tenant, server = request.match_info["tenant"], request.match_info["server"]
        return _json(await self._engine.server_logs(tenant, server, _number_after(request)))

    async def keep(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._engine.keep(_decoded(_digests, await request.read()).digests))

    async def missing(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._engine.missing(_decoded(_digests, await request.read()).digests))

    async def stand_in(self, request: web.Request) -> web.StreamResponse:
        asked = _decoded(_stand_in, await request.read())
        await self._engine.stand_in(asked.digest, asked.by)
        return _json({})

    async def instances(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._engine.instances(request.query.get("tenant", "")))

    async def capabilities(self, _: web.Request) -> web.StreamResponse:
        return _json(await self._engine.probe())


def _number_after(request: web.Request) -> int:
    after = request.query.get("after", "0")
    if not (after.isascii() and after.isdecimal() and len(after) < 20):
        raise Malformed("`after` is the number of a line.")
    return int(after)


def _told_here(connection: Connection, message: _Message) -> web.Response | None:
    """What a client of the handshake asks that this process may not ask its shared child."""
    if message.method == "server/discover":
        return web.Response(status=400, text=_TOO_OLD)
    if message.method == "initialize":
        return _answered(message.id, Answer(result=connection.greeting), is_modern=False)
    if message.method in _ENDS_HERE:
        return _answered(message.id, Answer(result=Raw(b"{}")), is_modern=False)
    return None


def _notified(connection: Connection, message: _Message) -> web.Response:
    """Notifications of one caller's session mean nothing to a process that others share; a cancel is a hang-up."""
    if connection.era == "modern" and message.method != "notifications/cancelled":
        connection.notify(message.method, message.params)
    return web.Response(status=202)


def _answered(number: int | str | UnsetType, answer: Answer, *, is_modern: bool) -> web.Response:
    part, content = (b"error", answer.error) if bytes(answer.error) else (b"result", answer.result)
    body = b'{"jsonrpc":"2.0","id":%b,"%b":%b}' % (msgspec.json.encode(number), part, bytes(content) or b"{}")
    status = _status(answer.error) if is_modern and part == b"error" else 200
    return web.Response(status=status, body=body, content_type="application/json")


def _status(error: Raw) -> int:
    try:
        code = _error.decode(error).code
    except msgspec.DecodeError:
        return 200
    if code == _METHOD_NOT_FOUND:
        return 404
    return 400 if code in _BAD_REQUESTS else 200


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Malformed(f"The body cannot be used: {error}") from None


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _refused(refused: Refused) -> web.Response:
    headers = {}
    if (after := refused.data.get("retry_after")) is not None:
        headers["Retry-After"] = str(max(1, round(after)))
    return web.Response(
        status=refused.status,
        body=msgspec.json.encode({"error": refused.written}),
        content_type="application/json",
        headers=headers,
    )
