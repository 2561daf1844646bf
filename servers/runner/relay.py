"""JSON-RPC over a child's standard streams, one message a line, with a bound on everything the child may do to us.

A child is a stranger's program: it may write without end, write nonsense, answer what nobody asked, stop reading or
die at any moment. None of it may hold memory beyond a line, keep the event loop for longer than a few
milliseconds, or leave a caller without an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable

import msgspec
from msgspec import Raw

from servers.runner.engine import KIB, MIB, Limits
from servers.runner.errors import Busy, Died, TimedOut, TooLarge
from servers.runner.logs import Log

CHUNK = 64 * KIB
# The event loop is handed on after this long, whatever a child sends.
SLICE_SECONDS = 0.005
# Lines that are no answer: so many a second on the average, and so many at once. A child beyond that is read more
# slowly, which stops it at its own pipe.
UNASKED, UNASKED_AT_ONCE, PAUSE_SECONDS = 200.0, 2_000.0, 0.05
# Requests of callers that wait for a slot hold their bodies.
WAITING_BYTES = 32 * MIB
# Calls whose caller has gone, but whose answer may still come; 100 bytes each.
ABANDONED = 1_000
# Numbers that JavaScript can hold too.
LARGEST_ID = 2**53 - 1
LONGEST_UNENDED_LOG_LINE = 64 * KIB
# What a dying child has written last is worth this much patience.
LAST_WORDS_SECONDS = 0.2
_METHOD_NOT_FOUND = b'{"code":-32601,"message":"The platform declares no client capability."}'


class Answer(msgspec.Struct, frozen=True):
    """What came back: `result` or `error` as raw JSON, the other one empty."""

    result: Raw = Raw()
    error: Raw = Raw()


class _Line(msgspec.Struct, gc=False):
    id: int | str | None = None
    method: str | None = None
    result: Raw = Raw()
    error: Raw = Raw()


_line = msgspec.json.Decoder(_Line)


class Relay:
    """Owns the streams of one child.

    `kill` ends the child's whole tree at once; `explain` says in words why it has ended, given its exit code;
    `clock` is that of `unanswered_since`.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        limits: Limits,
        log: Log,
        kill: Callable[[], None],
        *,
        explain: Callable[[int], str] = lambda code: f"it ended with code {code}",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process, self._limits, self._log = process, limits, log
        self._kill, self._explain, self._clock = kill, explain, clock
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self._abandoned: dict[int, None] = {}
        self._slots = asyncio.Semaphore(limits.in_flight)
        self._turn_to_write = asyncio.Lock()
        self._waiting = 0
        self._waiting_bytes = 0
        self._unasked = UNASKED_AT_ONCE
        self._unasked_at = time.monotonic()
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()
        self._reason = ""
        self._is_killed = False
        self.junk = 0
        self.list_changes = 0
        # When the oldest message was sent that no answer has come back after; None while nothing is owed.
        self.unanswered_since: float | None = None
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._tasks = [
            asyncio.create_task(work, name=f"relay-{name}")
            for name, work in (("out", self._read_output()), ("log", self._read_log()), ("end", self._end()))
        ]

    # ---- callers -----------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        return len(self._pending) + self._waiting

    async def call(self, method: str, params: bytes | Raw, *, seconds: float, in_turn: bool = True) -> Answer:
        """Ask and wait. Cancelling it tells the child and frees the slot; not `in_turn` needs none.

        Raises `Busy`, `TooLarge`, `TimedOut`, and `Died` with the last lines of the log.
        """
        body = _one_line(params)
        self._admit(len(body))
        self._is_quiet.clear()
        try:
            async with asyncio.timeout(seconds):
                async with self._slot(len(body)) if in_turn else contextlib.nullcontext():
                    return await self._exchange(method, body)
        except TimeoutError:
            raise TimedOut(f"The server has not answered within {seconds:g} s.") from None
        finally:
            if not self.in_flight:
                self._is_quiet.set()

    def notify(self, method: str, params: bytes | Raw = b"{}") -> None:
        """Send without waiting; a child that does not read misses it."""
        if not self._reason and self._has_room():
            self._write(b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (_text(method), _one_line(params)))

    async def quiet(self) -> None:
        """Until no call is running or waiting."""
        await self._is_quiet.wait()

    def _admit(self, size: int) -> None:
        if self._reason:
            raise self._death()
        if size > self._limits.line:
            raise TooLarge(f"A message may have {self._limits.line} bytes; this one has {size}.")
        if self._slots.locked() and (
            self._waiting >= self._limits.queue or self._waiting_bytes + size > WAITING_BYTES
        ):
            raise Busy(
                f"{self._limits.in_flight} calls are running and {self._waiting} wait. Try again in a moment.",
                retry_after=1,
            )

    @contextlib.asynccontextmanager
    async def _slot(self, size: int) -> AsyncIterator[None]:
        self._waiting += 1
        self._waiting_bytes += size
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size
        try:
            yield
        finally:
            self._slots.release()

    async def _exchange(self, method: str, body: bytes) -> Answer:
        if self._reason:
            raise self._death()
        # Not to be guessed: an answer shows that its question was read.
        number = secrets.randbelow(LARGEST_ID) + 1
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            await self._send(
                b'{"jsonrpc":"2.0","id":%d,"method":%b,"params":%b}' % (number, _text(method), body)
            )
            return await self._answered(number, future)
        finally:
            self._pending.pop(number, None)

    async def _send(self, message: bytes) -> None:
        """One after the other, each once the child has read what came before.

        So a message is all that is ever held for a child that does not read: whoever loses patience with it leaves
        no other behind.
        """
        async with self._turn_to_write:
            with contextlib.suppress(ConnectionError):  # its end is noticed, and told, by `_end`
                await self._stdin.drain()
            if self._reason:
                return
            if self.unanswered_since is None:
                self.unanswered_since = self._clock()
            self._write(message)

    async def _answered(self, number: int, future: asyncio.Future[Answer]) -> Answer:
        try:
            return await future
        except asyncio.CancelledError:
            self._abandon(number)
            self.notify("notifications/cancelled", b'{"requestId":%d}' % number)
            raise

    def _abandon(self, number: int) -> None:
        if self._pending.pop(number, None) is None:
            return  # its answer has come in the same moment
        self._abandoned[number] = None
        if len(self._abandoned) > ABANDONED:
            del self._abandoned[next(iter(self._abandoned))]

    def _write(self, message: bytes) -> None:
        self._stdin.write(message + b"\n")

    def _has_room(self) -> bool:
        return self._stdin.transport.get_write_buffer_size() < CHUNK

    # ---- the child ---------------------------------------------------------------------------------------

    async def _read_output(self) -> None:
        """Lines of the child, in slices of time. Returns at the end of its output or when it breaks the rules."""
        unended = bytearray()
        while chunk := await self._stdout.read(CHUNK):
            if self._is_killed:  # read to the end all the same: until then the process does not count as gone
                continue
            first, *others = chunk.split(b"\n")
            unended += first
            if others:
                *lines, rest = others
                await self._take_all([bytes(unended), *lines])
                unended = bytearray(rest)
            if len(unended) > self._limits.line:
                self.kill(f"it wrote a line of more than {self._limits.line} bytes")
                unended.clear()

    async def _take_all(self, lines: list[bytes]) -> None:
        began = time.monotonic()
        for line in lines:
            if self._is_killed:
                return
            self._take(line)
            if time.monotonic() - began > SLICE_SECONDS:
                await asyncio.sleep(0)
                began = time.monotonic()
        if self._is_flooding() and not self._is_killed:
            await asyncio.sleep(PAUSE_SECONDS)

    def _take(self, line: bytes) -> None:
        if len(line) > self._limits.line:
            self.kill(f"it wrote a line of more than {self._limits.line} bytes")
            return
        try:
            message = _line.decode(_valid(line))
        except (msgspec.DecodeError, ValueError, RecursionError):
            self._unasked -= 1
            if line.strip():
                self.junk += 1
                self._log.add("stdout", line[:LONGEST_UNENDED_LOG_LINE].decode("utf-8", "replace"))
            return
        if message.method is None:
            self._settle(message)
        else:
            self._unasked -= 1
            self._hear(message)

    def _settle(self, message: _Line) -> None:
        """Hand an answer to its caller. One that comes too late for that is a sign of life all the same.

        One to a question that nobody ever asked is none: a child can write it without having read anything.
        """
        number = message.id if isinstance(message.id, int) else 0
        future = self._pending.pop(number, None)
        if future is None and number not in self._abandoned:
            self._unasked -= 1
            return
        self._abandoned.pop(number, None)
        self.unanswered_since = self._clock() if self._pending else None
        if future is not None and not future.done():
            future.set_result(Answer(message.result, message.error))

    def _hear(self, message: _Line) -> None:
        """Notifications have nowhere to go yet, but for a count; requests are refused, except a ping."""
        if message.id is None:
            self.list_changes += str(message.method).endswith("/list_changed")
        elif self._unasked > 0 and self._has_room():
            outcome = b'"result":{}' if message.method == "ping" else b'"error":%b' % _METHOD_NOT_FOUND
            self._stdin.write(b'{"jsonrpc":"2.0","id":%b,%b}\n' % (msgspec.json.encode(message.id), outcome))

    def _is_flooding(self) -> bool:
        now = time.monotonic()
        self._unasked = min(UNASKED_AT_ONCE, self._unasked + (now - self._unasked_at) * UNASKED)
        self._unasked_at = now
        # What was written beyond the bound is not held against the child for ever.
        self._unasked = max(self._unasked, -UNASKED_AT_ONCE)
        return self._unasked <= 0

    async def _read_log(self) -> None:
        """Drained whatever it holds, since a child that cannot write its log stands still."""
        unended = b""
        while chunk := await self._stderr.read(CHUNK):
            # No more lines are looked at than the log would take, so a flood costs a count.
            *lines, rest = (unended + chunk).split(b"\n", max(self._log.allowance(), 0) + 1)
            for line in lines:
                self._log.add("stderr", line.decode("utf-8", "replace"))
            if (more := rest.count(b"\n")) > 0:
                self._log.drop(more)
                rest = rest.rpartition(b"\n")[2]
            unended = rest[:LONGEST_UNENDED_LOG_LINE]
            await asyncio.sleep(0)
        if unended:
            self._log.add("stderr", unended.decode("utf-8", "replace"))

    # ---- the end -----------------------------------------------------------------------------------------

    def kill(self, reason: str) -> None:
        """End it now. Calls that run fail with `reason`."""
        self._reason = self._reason or reason
        self._is_killed = True
        self._kill()

    async def stop(self, grace: float) -> None:
        """Close its input, as the protocol asks, wait `grace` seconds, then end it. Returns when it is gone."""
        self._reason = self._reason or "it was stopped"
        self._stdin.close()
        await asyncio.wait([self.gone], timeout=grace)
        self.kill("it was stopped")
        await asyncio.wait([self.gone])
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _end(self) -> None:
        """Wait for the process or its output to end, whichever is first, and tell everyone who waits."""
        output, log = self._tasks[:2]
        exited = asyncio.create_task(self._process.wait(), name="relay-exit")
        await asyncio.wait([exited, output], return_when=asyncio.FIRST_COMPLETED)
        if not exited.done():
            await asyncio.wait([exited], timeout=LAST_WORDS_SECONDS)
        if not exited.done():
            self._reason = self._reason or "it closed its output"
        # A grandchild may hold the streams, so the whole tree goes before they are read to their ends.
        self._kill()
        await asyncio.wait([output, log], timeout=LAST_WORDS_SECONDS)
        self._is_killed = True
        code = await exited
        for task in (output, log):
            task.cancel()
        self._reason = self._reason or self._explain(code)
        self._stdin.close()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(self._death())
        self._pending.clear()
        self.gone.set_result(self._reason)

    def _death(self) -> Died:
        return Died(
            f"The server's process is gone: {self._reason}.", reason=self._reason, log=self._log.tail()
        )


def _one_line(params: bytes | Raw) -> bytes:
    """Line breaks between tokens are blanks to JSON, and the end of a message to the child."""
    return bytes(params).replace(b"\n", b" ").replace(b"\r", b" ")


def _text(method: str) -> bytes:
    return msgspec.json.encode(method)


def _valid(line: bytes) -> bytes:
    """The same line in valid UTF-8: raw parts of it are handed on, and their readers are strict."""
    if line.isascii():
        return line
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode("utf-8", "replace").encode()
    return line
