"""The way out for code in a sandbox: a proxy behind one socket, for the hosts that were listed and nothing else.

It speaks CONNECT and absolute addresses, asks for names itself, checks every address it gets and connects to one of
those it has checked: a name that points elsewhere a moment later changes nothing. What goes through is counted, and
bounded for each hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

MIB = 2**20

# Whether an address, as text, may be connected to on a port.
Permits = Callable[[str, int], bool]
Lookup = Callable[[str, int], Awaitable[list[str]]]

MOST_HOSTS = 50
USUAL_PORTS = frozenset({80, 443})
HEAD_SECONDS, CONNECT_SECONDS = 10.0, 10.0
NAMES_SECONDS = 30.0
_KNOWN_NAMES = 200
_ADDRESSES_TRIED = 4
_HEAD_BYTES = 32 * 1024
_CHUNK = 64 * 1024
_EVENTS = 200
# Hosts that a summary names; a program may ask for any number of others.
_NAMED = 20
_HOST = re.compile(
    r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?",
    re.ASCII,
)
_NUMBERS_ONLY = re.compile(r"(?:0x[0-9a-f]*|\d+)(?:\.(?:0x[0-9a-f]*|\d+))*", re.ASCII)
_METHOD = re.compile(r"[A-Z]{1,20}", re.ASCII)
# They concern one hop, and this hop ends here.
_OUR_HEADERS = {"connection", "proxy-connection", "keep-alive", "te", "trailer", "upgrade"}


class NotAllowed(Exception):
    """The reason, for the log of the server and for its HTTP client."""


class Unusable(Exception):
    """The request makes no sense to a proxy."""


@dataclass(frozen=True, slots=True)
class Caps:
    """Bounds for one proxy: connections at once; connections and bytes (both ways) in each `period`; seconds without a
    byte.
    """

    at_once: int = 64
    connections: int = 100_000
    bytes: int = 64 * 2**30
    period: float = 3600.0
    idle: float = 60.0


@dataclass(frozen=True, slots=True)
class Allowed:
    """A host that may be reached: its name, or `*.` and the end of it; `ports` are the usual two unless one was named.

    `is_trusted` hosts may have any address: the operator has named them, and may run them on a private network.
    """

    name: str
    ports: frozenset[int] = USUAL_PORTS
    is_trusted: bool = False

    def covers(self, host: str, port: int) -> bool:
        if port not in self.ports:
            return False
        return host.endswith(self.name[1:]) if self.name.startswith("*.") else host == self.name


@dataclass(frozen=True, slots=True)
class Event:
    """One connection that was asked for: `refused` says why not, and is empty where it was made."""

    host: str
    port: int
    refused: str = ""


@dataclass(slots=True)
class Counts:
    """What went out, and what was not let, since the last summary."""

    connections: int = 0
    bytes: int = 0
    made: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def note(self, event: Event) -> None:
        counter = self.refused if event.refused else self.made
        host = f"{event.host}:{event.port}"
        counter[host if host in counter or len(counter) < _NAMED else "others"] += 1

    @property
    def summary(self) -> str:
        """One line; empty when nothing was asked for."""
        if not (self.made or self.refused):
            return ""
        size = f"{self.bytes / MIB:.1f} MiB"
        return f"Ways out: {_listed(self.made)} reached with {size} in all; {_listed(self.refused)} refused."


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{host} ({count})" for host, count in counter.most_common()) or "none"


def allowed(text: str, *, is_trusted: bool = False) -> Allowed:
    """`example.com`, `*.example.com` or `example.com:8443`. Raises `ValueError` with a sentence."""
    host, colon, port = text.strip().lower().rstrip(".").partition(":")
    if not _HOST.fullmatch(host) or len(host) > 253 or _NUMBERS_ONLY.fullmatch(host):
        raise ValueError(f"{text[:100]!r} is not a host name such as api.example.com.")
    if host.startswith("*.") and "." not in host[2:]:
        raise ValueError(f"{text[:100]!r} would cover too much. Name a domain such as *.example.com.")
    if not colon:
        return Allowed(host, is_trusted=is_trusted)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError(f"{text[:100]!r} has no port between 1 and 65535.")
    return Allowed(host, frozenset({int(port)}), is_trusted)


def nowhere(address: str, port: int) -> bool:
    """The rule of who has handed in none."""
    return False


async def ask_the_system(host: str, port: int) -> list[str]:
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in infos]


@dataclass(slots=True)
class Proxy:
    """For one server or one build. `permits` is the installation's own rule about addresses."""

    hosts: Sequence[Allowed]
    permits: Permits
    caps: Caps = Caps()
    lookup: Lookup = ask_the_system
    clock: Callable[[], float] = monotonic
    # Told of every connection that is asked for; must not wait.
    heard: Callable[[Event], None] = lambda _: None
    # Told at the end of each period in which anything was asked for, and at the end of all; must not wait.
    summed_up: Callable[[str], None] = lambda _: None
    # The last connections asked for, oldest first.
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=_EVENTS))
    _known: dict[tuple[str, int], tuple[float, list[str]]] = field(default_factory=dict)
    _counts: Counts = field(default_factory=Counts)
    _open: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        if len(self.hosts) > MOST_HOSTS:
            raise ValueError(f"{len(self.hosts)} hosts are listed; {MOST_HOSTS} is the most.")

    @contextlib.asynccontextmanager
    async def listening(self, path: Path, *, owner: int | None = None) -> AsyncIterator[None]:
        """Serve on a unix socket that only `owner` may use (None: only ourselves). All connections end with it."""
        server = await asyncio.start_unix_server(self._accept, path, limit=_HEAD_BYTES)
        try:
            os.chmod(path, 0o600)
            if owner is not None:
                os.chown(path, owner, owner)
            self._begin(self._sum_up_for_ever())
            yield
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            path.unlink(missing_ok=True)
            self._sum_up()

    async def _sum_up_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.caps.period)
            self._sum_up()

    def _sum_up(self) -> None:
        """Say what the period held, and count anew."""
        ended, self._counts = self._counts, Counts()
        if ended.summary:
            self.summed_up(ended.summary)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="egress")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- one connection --------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One too many is sent away before it has said anything: silence costs us a descriptor too."""
        if self._open >= self.caps.at_once:
            _answer(writer, "403 Forbidden", "Too many connections.")
            writer.close()
            return
        self._open += 1
        self._begin(self._handle(reader, writer))

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except NotAllowed as refused:
            _answer(writer, "403 Forbidden", str(refused))
        except Unusable as unusable:
            _answer(writer, "400 Bad Request", str(unusable))
        except TimeoutError:
            _answer(writer, "504 Gateway Timeout", "No answer in time.")
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            _answer(writer, "502 Bad Gateway", "The host could not be reached.")
        finally:
            try:
                await _close(writer)
            finally:
                self._open -= 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_SECONDS):
            head = _Head.parse(await reader.readuntil(b"\r\n\r\n"))
        try:
            outer = await self._connect(head.host, head.port)
        except (NotAllowed, OSError, TimeoutError) as error:
            self._note(Event(head.host[:253], head.port, str(error) or type(error).__name__))
            raise
        self._note(Event(head.host, head.port))
        outer_reader, outer_writer = outer
        try:
            if head.is_tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                outer_writer.write(head.rewritten)
            await self._join(reader, writer, outer_reader, outer_writer, head.body)
        finally:
            await _close(outer_writer)

    def _note(self, event: Event) -> None:
        self.events.append(event)
        self._counts.note(event)
        self.heard(event)

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        outer_reader: asyncio.StreamReader,
        outer_writer: asyncio.StreamWriter,
        body: int | None,
    ) -> None:
        """Both ways until the far end is done. The near end may stop sending before."""
        flow = _Flow(self.clock())
        there = asyncio.create_task(self._copy(reader, outer_writer, body, flow))
        back = asyncio.create_task(self._copy(outer_reader, writer, None, flow))
        try:
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([back], timeout=None if there.done() and not there.exception() else 0)
        finally:
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)

    async def _copy(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, most: int | None, flow: _Flow
    ) -> None:
        """At most `most` bytes, all if None. Ends at the caps without a word: the stream is under way already."""
        while most is None or most > 0:
            data = await self._read(source, _CHUNK if most is None else min(_CHUNK, most), flow)
            self._counts.bytes += len(data)
            if not data or self._counts.bytes > self.caps.bytes:
                break
            target.write(data)
            async with asyncio.timeout(self.caps.idle):
                await target.drain()
            most = None if most is None else most - len(data)
        if most is None and target.can_write_eof():
            target.write_eof()

    async def _read(self, source: asyncio.StreamReader, most: int, flow: _Flow) -> bytes:
        """What comes next. Raises TimeoutError once both ways have been silent for too long."""
        while True:
            try:
                async with asyncio.timeout(self.caps.idle):
                    data = await source.read(most)
            except TimeoutError:
                if self.clock() - flow.last_byte >= self.caps.idle:
                    raise
            else:
                flow.last_byte = self.clock()
                return data

    # ---- who may be reached ----------------------------------------------------------------------------------

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        entry = self._entry(host, port)
        if self._counts.connections >= self.caps.connections:
            raise NotAllowed("This server has made all the connections that it may in an hour.")
        if self._counts.bytes >= self.caps.bytes:
            raise NotAllowed("This server has used up what it may send and receive in an hour.")
        async with asyncio.timeout(CONNECT_SECONDS):
            addresses = await self._addresses(host, port)
        for address in addresses:
            if not (entry.is_trusted or self.permits(address, port)):
                # Which address it is stays here: it may be one of the inside.
                raise NotAllowed(f"{host} is not on the public internet.")
        self._counts.connections += 1
        return await _first_of(addresses[:_ADDRESSES_TRIED], port)

    def _entry(self, host: str, port: int) -> Allowed:
        for entry in self.hosts:
            # An operator may have listed an address; the lists of tenants hold names only.
            if entry.covers(host, port) and (entry.is_trusted or not _is_address(host)):
                return entry
        if _is_address(host):
            raise NotAllowed("Use a name instead of an address.")
        raise NotAllowed(f"{host} on port {port} is not among the hosts this server may reach.")

    async def _addresses(self, host: str, port: int) -> list[str]:
        """What the name means, the same for half a minute. Raises OSError."""
        known = self._known.get((host, port))
        if known and self.clock() - known[0] < NAMES_SECONDS:
            return known[1]
        found = list(dict.fromkeys(await self.lookup(host, port)))
        if not found:
            raise OSError("no address")
        if len(self._known) >= _KNOWN_NAMES:
            self._known.clear()
        self._known[host, port] = self.clock(), found
        return found


@dataclass(slots=True)
class _Flow:
    """When a byte went through last, either way."""

    last_byte: float


@dataclass(frozen=True, slots=True)
class _Head:
    """What a request to a proxy asks for. `body` is None where bytes simply flow."""

    host: str
    port: int
    is_tunnel: bool
    rewritten: bytes = b""
    body: int | None = None

    @classmethod
    def parse(cls, raw: bytes) -> _Head:
        """Raises `Unusable`."""
        first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or words[2] not in {"HTTP/1.1", "HTTP/1.0"} or not _METHOD.fullmatch(words[0]):
            raise Unusable("This is not a request to a proxy.")
        if words[0] == "CONNECT":
            host, port = _host_and_port("//" + words[1], None)
            return cls(host, port, is_tunnel=True)
        return cls._absolute(words[0], words[1], lines)

    @classmethod
    def _absolute(cls, method: str, url: str, lines: list[str]) -> _Head:
        if not url.startswith("http://"):
            raise Unusable("Use an address that begins with http://, or CONNECT.")
        host, port = _host_and_port(url, 80)
        kept, body = _headers(lines)
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # One request a connection, so that the next one cannot go to this host under another's name.
        head = [f"{method} {path} HTTP/1.1", f"Host: {parts.netloc}", *kept, "Connection: close"]
        return cls(host, port, False, ("\r\n".join(head) + "\r\n\r\n").encode("latin-1"), body)


def _headers(lines: Iterable[str]) -> tuple[list[str], int]:
    """Those that are passed on, and the length of the body. Raises `Unusable`."""
    kept, lengths = [], set()
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line or "\r" in line or "\0" in line:
            raise Unusable("A header cannot be read.")
        lowered = name.lower()
        if lowered == "transfer-encoding":
            raise Unusable("Send the length of the body instead of pieces.")
        if lowered == "content-length":
            lengths.add(value.strip())
        if lowered not in _OUR_HEADERS and lowered != "host" and not lowered.startswith("proxy-"):
            kept.append(line)
    length = lengths.pop() if lengths else "0"
    if lengths or not (length.isascii() and length.isdigit() and len(length) < 16):
        raise Unusable("The length of the body cannot be read.")
    return kept, int(length)


def _host_and_port(url: str, usual: int | None) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or usual
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if not host or port is None or "@" in parts.netloc:
        raise Unusable("The host cannot be read.")
    return host.lower(), port


def _is_address(host: str) -> bool:
    """Also in the spellings that only some programs read as an address: 0x7f000001, 127.1."""
    if _NUMBERS_ONLY.fullmatch(host):
        return True
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def _first_of(addresses: list[str], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first address that answers. Raises OSError and TimeoutError."""
    problem: OSError = OSError("no address")
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await asyncio.open_connection(address, port)
        except OSError as error:
            problem = error
    raise problem


async def _close(writer: asyncio.StreamWriter) -> None:
    """What is under way may still arrive, unless all is over. Whoever does not take it in time loses it: the
    descriptor is ours.
    """
    task = asyncio.current_task()
    seconds = 0.0 if task is not None and task.cancelling() else HEAD_SECONDS
    try:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                writer.close()
                await writer.wait_closed()
    finally:
        writer.transport.abort()


def _answer(writer: asyncio.StreamWriter, status: str, reason: str) -> None:
    """Plain words for the program inside. Nothing is sent where the bytes of a tunnel flow already."""
    if writer.transport.is_closing():
        return
    body = reason.encode("ascii", "replace") + b"\n"
    writer.write(
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n".encode()
        + body
    )
