"""A proxy that does to the connections between us and an origin what networks and origins do to them.

It reads requests one by one and pipes answers as bytes. Which requests are treated badly is decided by a seed, so a
run that failed can be repeated. Where all answers come on one event stream (HTTP+SSE), what is done to answers is done
to its parts, and not to the empty answers of what is posted beside it.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

NONE = "none"
# Instead of passing the request on.
INSTEAD = ("blackhole", "reset", "half_close", "endless", "bad_json", "storm")
# To the answer, on its way back.
WITHIN = ("latency", "reset_within", "half_close_within", "slow", "wrong_id")
FAULTS = (*INSTEAD, *WITHIN)
TO_ANSWERS = ("endless", "bad_json", *WITHIN)
LATENCY_SECONDS = 0.03
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_STORM = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
_BAD_JSON = _HEAD + b'Content-Length: 14\r\n\r\n{"jsonrpc": "2'
_ID = re.compile(rb'("id":\s*)(\d+)')


class FaultProxy:
    """`faults` are drawn from for each request, with a chance of `share`; the rest passes through.

    `open` counts connections from our side, `done` what was done to requests and to parts of event streams.
    """

    def __init__(self, host: str, port: int, seed: int) -> None:
        self.faults: tuple[str, ...] = ()
        self.share = 1.0
        self.open = 0
        self.streams = 0
        self.done: Counter[str] = Counter()
        self._origin = (host, port)
        self._chance = random.Random(seed)
        self._running: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self.open += 1
        try:
            await _Line(self, reader, writer).serve()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one of the two has gone, or the test is over
        finally:
            writer.transport.abort()
            self.open -= 1
            self._running.discard(task)

    def drawn(self, among: tuple[str, ...] = FAULTS) -> str:
        fault, faults = NONE, [fault for fault in self.faults if fault in among]
        if faults and self._chance.random() < self.share:
            fault = self._chance.choice(faults)
        self.done[fault] += 1
        return fault

    async def origin(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._origin)

    async def close(self) -> None:
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


class _Line:
    """One connection of ours, and the one to the origin that belongs to it."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._fault = NONE
        self._is_stream = False

    async def serve(self) -> None:
        from_origin, to_origin = await self._proxy.origin()
        back = asyncio.create_task(self._answers(from_origin))
        try:
            while True:
                request = await self._request()
                self._fault = self._proxy.drawn()
                if self._proxy.streams and self._fault in TO_ANSWERS:
                    self._fault = NONE
                if self._fault in INSTEAD:
                    if not await getattr(self, f"_{self._fault}")():
                        return
                else:
                    self._note_stream(request)
                    to_origin.write(request)
        finally:
            self._proxy.streams -= self._is_stream
            back.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await back
            to_origin.transport.abort()

    async def _request(self) -> bytes:
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        return head + (await self._reader.readexactly(int(length[1])) if length else b"")

    def _note_stream(self, request: bytes) -> None:
        if request.startswith(b"GET ") and b"\r\nAccept: text/event-stream\r\n" in request:
            self._is_stream = True
            self._proxy.streams += 1

    # ---- instead of an answer; each says whether the connection can be used again ----------------------------

    async def _blackhole(self) -> bool:
        await self._reader.read()  # until we have hung up
        return False

    async def _reset(self) -> bool:
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return False

    async def _half_close(self) -> bool:
        self._writer.write_eof()
        return await self._blackhole()

    async def _endless(self) -> bool:
        self._writer.write(_HEAD + b"\r\n" + b'{"x": "')
        while True:
            self._writer.write(b"x" * 16_384)
            await self._writer.drain()

    async def _bad_json(self) -> bool:
        self._writer.write(_BAD_JSON)
        return True

    async def _storm(self) -> bool:
        self._writer.write(_STORM)
        return True

    # ---- on the way back -------------------------------------------------------------------------------------

    async def _answers(self, from_origin: asyncio.StreamReader) -> None:
        while chunk := await from_origin.read(65_536):
            if self._is_stream:
                self._fault = self._proxy.drawn(TO_ANSWERS)
            if self._fault == "latency":
                await asyncio.sleep(LATENCY_SECONDS)
            if self._fault == "wrong_id":  # as long as it was, so that no length has to be changed
                chunk = _ID.sub(lambda match: match[1] + b"9" * len(match[2]), chunk)
            if self._fault == "bad_json":
                chunk = chunk.replace(b'"jsonrpc"', b"'jsonrpc'")
            if self._fault == "endless":
                await self._endless_event()
            elif self._fault in ("reset_within", "half_close_within"):
                await self._cut(chunk)
            elif self._fault == "slow":
                await self._dribble(chunk)
            else:
                self._writer.write(chunk)
                await self._writer.drain()
        self._writer.close()

    async def _cut(self, chunk: bytes) -> None:
        """Half of it, and no more."""
        self._writer.write(chunk[: len(chunk) - 5])
        await self._writer.drain()
        if self._fault == "half_close_within":
            self._writer.write_eof()
            await asyncio.Event().wait()
        await asyncio.sleep(0.01)  # what was written goes out before the reset
        await self._reset()
        self._writer.transport.abort()

    async def _dribble(self, chunk: bytes) -> None:
        """As long as it is to be done: an event stream outlives that."""
        sent = 0
        while sent < len(chunk) and "slow" in self._proxy.faults:
            self._writer.write(chunk[sent : sent + 1])
            await self._writer.drain()
            await asyncio.sleep(0.02)
            sent += 1
        self._writer.write(chunk[sent:])
        await self._writer.drain()

    async def _endless_event(self) -> None:
        self._writer.write(b"6\r\ndata: \r\n")
        while True:
            self._writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            await self._writer.drain()


@asynccontextmanager
async def fault_proxy(origin: str, *, seed: int = 1) -> AsyncIterator[FaultProxy]:
    """In front of `origin`, `http://127.0.0.1:<port>`. It harms nothing until `faults` are set."""
    host, port = origin.removeprefix("http://").split("/")[0].split(":")
    proxy = FaultProxy(host, int(port), seed)
    server = await asyncio.start_server(proxy.meet, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
