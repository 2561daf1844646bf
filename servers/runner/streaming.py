"""A build over the socket: one line of JSON and the upload go in, its steps and its end come out as they happen.

    {"event": {"stage", "line", "at"}}      any number of them
    {"built": {…}}                          the last line (`engine.BuildResult`)
    {"error": {"code", "message", "data"}}  or this one

Who hangs up cancels the build.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import msgspec
from aiohttp import web

from servers.runner.building.inside.bounds import PACKED
from servers.runner.engine import KIB, MIB, BuildEvent, BuildResult, BuildSpec, Heard
from servers.runner.errors import Malformed, Refused, TimedOut, TooLarge
from servers.runner.hosted import HostedEngine
from servers.runner.turns import Turns

# A hundred variables and secrets of 48 KiB, written as JSON.
SPEC_BYTES = 16 * MIB
BODY_SECONDS, BUILD_SECONDS, WRITE_SECONDS = 30.0, 600.0, 30.0
_CHUNK = 256 * KIB

logger = logging.getLogger(__name__)
_spec = msgspec.json.Decoder(BuildSpec)


async def build(request: web.Request, engine: HostedEngine, turns: Turns) -> web.StreamResponse:
    """Raises `Busy` before anything of the body is read."""
    turns.admit()
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    steps: asyncio.Queue[BuildEvent | None] = asyncio.Queue()
    building = asyncio.create_task(_ending(request, engine, turns, steps.put_nowait))
    building.add_done_callback(lambda _: steps.put_nowait(None))
    try:
        while (step := await steps.get()) is not None:
            await _write(response, {"event": step})
        await _write(response, building.result())
    finally:
        building.cancel()
        await asyncio.wait([building])
    return response


async def _write(response: web.StreamResponse, line: Any) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(msgspec.json.encode(line) + b"\n")


async def _ending(request: web.Request, engine: HostedEngine, turns: Turns, heard: Heard) -> dict[str, Any]:
    """The last line. Only being cancelled is raised."""
    try:
        return {"built": await _built(request, engine, turns, heard)}
    except Refused as refused:
        return {"error": refused.written}
    except Exception:  # the border, as in `servers.runner.serving`
        logger.exception("The runner failed to build.")
        return {"error": Refused("The runner failed; its log says why.").written}


async def _built(request: web.Request, engine: HostedEngine, turns: Turns, heard: Heard) -> BuildResult:
    def waits(others: int) -> None:
        heard(BuildEvent("read", f"Waiting: {others} other builds are before this one.", time.time()))

    # What is handed in is read in its turn: those who wait hold no memory here.
    async with turns.taken(waits):
        spec, upload = await _read(request)
        try:
            async with asyncio.timeout(BUILD_SECONDS):
                return await engine.build(spec, upload, heard)
        except TimeoutError:
            raise TimedOut(f"The build has not ended within {BUILD_SECONDS:g} s.") from None


async def _read(request: web.Request) -> tuple[BuildSpec, bytes]:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_chunked(_CHUNK):
                body += chunk
                if len(body) > SPEC_BYTES + PACKED:
                    raise TooLarge(f"The upload has more than {PACKED // MIB} MiB.")
    except TimeoutError:
        raise TimedOut(f"The upload has not come within {BODY_SECONDS:g} s.") from None
    line, newline, upload = bytes(body).partition(b"\n")
    try:
        if not newline:
            raise ValueError("there is no upload after its first line")
        return _spec.decode(line), upload
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Malformed(f"The body cannot be used: {error}") from None
