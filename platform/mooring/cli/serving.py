"""The web server: uvicorn with bounds on what a stranger may make it hold, and a drain before it stops."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
import time
from dataclasses import dataclass
from types import FrameType
from typing import cast
from weakref import ref

from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from mooring.cli.slow_timers import slow_timers
from mooring.errors import Unavailable
from mooring.health import draining
from servers.gateway.direct import EXTENSION

# Twice what browsers and proxies send at most. uvicorn with httptools has no limit of its own.
HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 20.0
# How long the rest of a body that was answered early is read and thrown away: who is cut off while sending
# may never see the answer, and who sends for ever must not keep the connection.
LINGER_SECONDS = 5.0
# A client that takes less than this of an answer in this time is not reading it: two kilobytes a second.
READ_SECONDS = 30.0
READ_BYTES = 64 * 1024
# Longer than the idle time of every common proxy, so that it is never us who hangs up on a reused connection.
KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048
# Objects, then runs of the younger generations (gc.set_threshold).
COLLECT_EVERY = (10_000, 20, 50)
_CLOSE = (b"connection", b"close")
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class HeadTooLarge(ValueError):
    """Raised into the parser, which ends the connection with 400."""


class BodyOfAnUpgrade(ValueError):
    """As above. The parser would take such a body for the next request."""


class _Direct:
    """`servers.gateway.direct.Direct` over a request of uvicorn's: what its `receive` and `send` do, at once.

    It lies in the request's scope, so it must not hold the request: that would be a circle, and circles are left to
    the collector, which makes every call dearer by far more than the look through this reference.
    """

    __slots__ = ("_cycle_of",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle_of = ref(cycle)

    def body(self) -> bytes | None:
        cycle = self._cycle_of()
        if cycle is None or cycle.more_body or cycle.disconnected or cycle.response_complete:
            return None
        cycle.message_event.clear()
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def answer(self, status: int, head: bytes, body: bytes) -> bool:
        cycle = self._cycle_of()
        if cycle is None:
            return False
        fields = cycle.default_headers
        if (
            cycle.disconnected
            or cycle.response_started
            or cycle.flow.write_paused
            or not cycle.keep_alive
            or _CLOSE in fields
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(b"%b%b%b\r\n%b" % (STATUS_LINE[status], _written(fields), head, body))
        cycle.message_event.set()
        cycle.on_response()
        return True


@dataclass(slots=True)
class _Fields:
    """The header fields that uvicorn adds to each answer, which it makes anew once a second, and as text."""

    fields: list[tuple[bytes, bytes]]
    text: bytes


_fields = _Fields([], b"")


def _written(fields: list[tuple[bytes, bytes]]) -> bytes:
    if _fields.fields is not fields:
        _fields.fields, _fields.text = fields, b"".join([b"%b: %b\r\n" % field for field in fields])
    return _fields.text


class GuardedProtocol(HttpToolsProtocol):
    """Refuses heads that are too large or take too long to arrive, and lets go of bodies nobody waits for and of
    clients who do not read. None of it costs a call that is well anything but a flag or two.
    """

    read_seconds = READ_SECONDS
    _is_in_head = True
    _is_in_body = False
    _head_bytes = 0
    _chunk_bytes = 0
    # Bytes of a body's frame since the last of its content: trailers without end would be among them.
    _frame_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _linger_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        self.loop = cast(asyncio.AbstractEventLoop, slow_timers(self.loop))
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_lingering()
        self._stop_expecting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._chunk_bytes = len(data)
        self._frame_bytes += len(data)
        # The end of a body is no part of the head behind it.
        was_in_body = self._is_in_body
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_in_head:
            self._look_at_head(self._size_of_head() if was_in_body else len(data))
        elif self._is_in_body:
            if self._frame_bytes > HEAD_BYTES:
                self.transport.close()
        elif self.timeout_keep_alive_task is None and self.cycle is not None and self.cycle.response_complete:
            # What came was no request, such as the end of a line, and uvicorn has put its timer away for it.
            self._arm_keep_alive()

    def _look_at_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._head_timer is None:
            self._wait_for_head()

    def _arm_keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def on_message_begin(self) -> None:
        self._is_in_head = True
        self._head_bytes = 0
        self._unset_keepalive_if_required()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # What follows a body (trailers) would else pass for headers of the request. The rest is uvicorn's, written
        # out, since it is done ten times a call.
        if not self._is_in_head:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._frame_bytes = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_waiting()
        if self._chunk_bytes > HEAD_BYTES and self._size_of_head() > HEAD_BYTES:
            raise HeadTooLarge
        if self.parser.should_upgrade() and self._has_body():
            raise BodyOfAnUpgrade
        self._is_in_body = True
        self._frame_bytes = 0
        super().on_headers_complete()
        # The type is of an older specification, whose extensions are mappings.
        self.scope["extensions"] = {EXTENSION: _Direct(self.cycle)}  # type: ignore[dict-item]

    def on_message_complete(self) -> None:
        self._is_in_body = False
        super().on_message_complete()
        if self._stop_lingering():
            # uvicorn armed this when it answered, and data that came since has disarmed it.
            self._arm_keep_alive()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_in_body and self.cycle.response_complete:
            self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def pause_writing(self) -> None:
        """The client takes less than it is sent. Sending waits from here on, and would wait for ever."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        self._stop_expecting()
        super().resume_writing()

    def _expect_reading(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._read_timer = self.loop.call_later(self.read_seconds, self._check_reading, left)

    def _check_reading(self, before: int) -> None:
        if before - self.transport.get_write_buffer_size() < READ_BYTES:
            self.transport.abort()
        else:
            self._expect_reading()

    def _stop_expecting(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _has_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0")
            for name, value in self.headers
        )

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _stop_lingering(self) -> bool:
        """Whether it was lingering."""
        timer, self._linger_timer = self._linger_timer, None
        if timer is not None:
            timer.cancel()
        return timer is not None

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class DrainingServer(Server):
    """On SIGTERM: unready at once, still accepting for `drain` seconds, then close and finish what runs."""

    def __init__(self, config: Config, *, drain: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._stop_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A second signal ends the drain, a third Ctrl-C the waiting for calls that run."""
        draining.start()
        if sig == signal.SIGTERM and self._drain > 0 and self._stop_at is None:
            self._stop_at = time.monotonic() + self._drain
            self._announce_end()
        elif self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        else:
            self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is there now stays: looking through it again and again would cost calls a tenth of their time, and
        # what they leave behind is nearly all freed by counting references.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_EVERY)

    async def on_tick(self, counter: int) -> bool:
        must_exit = await super().on_tick(counter)
        if self._stop_at is None:
            return must_exit
        self._announce_end()
        return must_exit or time.monotonic() >= self._stop_at

    def _announce_end(self) -> None:
        """Answers tell keep-alive clients to go elsewhere; uvicorn renews these headers each second."""
        if _CLOSE not in self.server_state.default_headers:
            self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]


def configure(application: str, *, grace: int) -> Config:
    """`grace` is how long, in seconds, running calls and open streams may take once we stop."""
    return Config(
        application,
        loop="uvloop",
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=grace,
    )


def bound(host: str, port: int) -> socket.socket:
    """The address, taken before anything slow is done. Raises `Unavailable` when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(_why(host, port, error)) from None
    return listener


def _why(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is taken by another program. Choose another, for example PORT={port + 1}."
    if error.errno == errno.EACCES:
        return f"Port {port} needs more rights than we have. Choose one above 1023, for example PORT=8000."
    return f"{host}:{port} cannot be listened on: {error.strerror}."
