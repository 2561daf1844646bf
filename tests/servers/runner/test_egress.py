"""The way out of a sandbox leads to the listed hosts, and to nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mooring.egress.guard import Guard
from servers.runner import egress
from servers.runner.egress import Allowed, Caps, Permits, Proxy, allowed

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]
LOOPBACK = "127.0.0.1"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="egress-") as name:
        yield Path(name)


class Origin:
    """Answers every request with what it has seen of it, and closes."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            length = next(
                (int(row.split(":")[1]) for row in head.split("\r\n") if row.startswith("Content-Length")), 0
            )
            self.bodies.append(await reader.readexactly(length))
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def listening(handle: Handler) -> AsyncIterator[int]:
    server = await asyncio.start_server(handle, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    made = Origin()
    async with listening(made.handle) as made.port:
        yield made


def anywhere(address: str, port: int) -> bool:
    return True


def leading_to(*answers: list[str]) -> Callable[[str, int], object]:
    """A name service whose answers follow one another; the last one stays."""
    left = list(answers)

    async def lookup(host: str, port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return lookup


def proxy(port: int, *, permits: Permits = anywhere, lookup: object = None, **options: object) -> Proxy:
    hosts = [Allowed("api.example.com", frozenset({port})), Allowed("*.example.org", frozenset({port}))]
    return Proxy(hosts, permits, lookup=lookup or leading_to([LOOPBACK]), **options)  # type: ignore[arg-type]


async def through(path: Path, request: str, *, more: bytes = b"") -> bytes:
    """All that comes back for one request."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(request.replace("\n", "\r\n").encode() + more)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def answer(made: Proxy, folder: Path, request: str) -> str:
    async with made.listening(folder / "s"):
        return (await through(folder / "s", request)).decode()


def connect(host: str, port: int) -> str:
    return f"CONNECT {host}:{port} HTTP/1.1\nHost: {host}\n\n"


def get(host: str, port: int, *headers: str) -> str:
    return "\n".join([f"GET http://{host}:{port}/path?q=1 HTTP/1.1", "Host: evil.example", *headers, "", ""])


async def test_a_listed_host_is_reached_by_an_absolute_address(folder: Path, origin: Origin) -> None:
    made = proxy(origin.port)
    text = await answer(
        made, folder, get("api.example.com", origin.port, "Accept: a/b", "Proxy-Authorization: x")
    )
    assert text.endswith("hello")
    head = origin.heads[0]
    assert head.startswith("GET /path?q=1 HTTP/1.1\r\n")
    assert f"Host: api.example.com:{origin.port}\r\n" in head
    assert "Accept: a/b" in head
    assert "evil.example" not in head
    assert "Proxy-" not in head
    assert [(event.host, event.refused) for event in made.events] == [("api.example.com", "")]


async def test_a_listed_host_is_reached_by_a_tunnel(folder: Path, origin: Origin) -> None:
    async with proxy(origin.port).listening(folder / "s"):
        reader, writer = await asyncio.open_unix_connection(folder / "s")
        writer.write(connect("API.example.com.", origin.port).replace("\n", "\r\n").encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await reader.read()).endswith(b"hello")
        writer.close()


async def test_a_tunnel_may_be_closed_on_one_side_first(folder: Path) -> None:
    async def echo_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        await writer.drain()
        writer.close()

    async with listening(echo_at_the_end) as port, proxy(port).listening(folder / "s"):
        reader, writer = await asyncio.open_unix_connection(folder / "s")
        writer.write(connect("api.example.com", port).replace("\n", "\r\n").encode() + b"all of it")
        writer.write_eof()
        assert (await reader.read()).endswith(b"\r\n\r\nall of it")
        writer.close()


async def test_the_body_of_a_request_goes_along_and_nothing_after_it(folder: Path, origin: Origin) -> None:
    request = f"POST http://api.example.com:{origin.port}/ HTTP/1.1\nContent-Length: 5\n\n"
    async with proxy(origin.port).listening(folder / "s"):
        sent = b"12345" + get("other.example", 80).replace("\n", "\r\n").encode()
        assert (await through(folder / "s", request, more=sent)).endswith(b"hello")
    assert origin.bodies == [b"12345"]
    assert len(origin.heads) == 1


@pytest.mark.parametrize(
    "host",
    [
        "other.example.com",
        "example.org",
        "api.example.com.evil.net",
        "localhost",
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
    ],
)
@pytest.mark.parametrize("way", [connect, get])
async def test_every_other_host_is_refused(
    folder: Path, origin: Origin, host: str, way: Callable[[str, int], str]
) -> None:
    made = proxy(origin.port)
    assert (await answer(made, folder, way(host, origin.port))).startswith("HTTP/1.1 403")
    assert origin.heads == []
    assert made.events[0].refused


async def test_a_listed_host_is_refused_on_another_port(folder: Path, origin: Origin) -> None:
    assert "403" in await answer(proxy(origin.port + 1), folder, connect("api.example.com", origin.port))


async def test_below_a_listed_domain_every_name_is_reached(folder: Path, origin: Origin) -> None:
    assert "hello" in await answer(proxy(origin.port), folder, get("a.b.example.org", origin.port))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1%eth0", "100.64.0.1"],
)
async def test_a_name_that_leads_inside_is_refused_and_the_address_is_not_told(
    folder: Path, origin: Origin, address: str
) -> None:
    def installation(address: str, port: int) -> bool:
        return Guard(ports={origin.port}).permits(address, port, plain=False)

    made = proxy(origin.port, permits=installation, lookup=leading_to([address]))
    text = await answer(made, folder, get("api.example.com", origin.port))
    assert text.startswith("HTTP/1.1 403")
    assert address not in text
    assert origin.heads == []


async def test_one_address_inside_spoils_all_of_a_name(folder: Path, origin: Origin) -> None:
    made = proxy(
        origin.port,
        permits=lambda address, port: address == LOOPBACK,
        lookup=leading_to([LOOPBACK, "127.0.0.2"]),
    )
    assert "403" in await answer(made, folder, get("api.example.com", origin.port))


async def test_what_a_name_meant_when_it_was_checked_is_what_is_connected_to(
    folder: Path, origin: Origin
) -> None:
    """A name service that answers with a good address first and a bad one a moment later gains nothing."""
    now = [0.0]
    made = proxy(
        origin.port,
        permits=lambda address, port: address == LOOPBACK,
        lookup=leading_to([LOOPBACK], ["127.0.0.2"]),
        clock=lambda: now[0],
    )
    async with made.listening(folder / "s"):
        for _ in range(2):
            assert b"hello" in await through(folder / "s", get("api.example.com", origin.port))
        now[0] = 31.0
        assert b"403" in await through(folder / "s", get("api.example.com", origin.port))
    assert len(origin.heads) == 2


async def test_the_operators_own_host_may_be_anywhere(folder: Path, origin: Origin) -> None:
    hosts = [Allowed(LOOPBACK, frozenset({origin.port}), is_trusted=True)]
    made = Proxy(hosts, permits=lambda address, port: False)
    assert "hello" in await answer(made, folder, get(LOOPBACK, origin.port))


@pytest.mark.parametrize(
    "request_text",
    [
        "GET / HTTP/1.1\n\n",
        "GET https://api.example.com/ HTTP/1.1\n\n",
        "GET http://user:pass@api.example.com/ HTTP/1.1\n\n",
        "GET http://api.example.com:port/ HTTP/1.1\n\n",
        "CONNECT api.example.com HTTP/1.1\n\n",
        "nonsense\n\n",
        "POST http://api.example.com/ HTTP/1.1\nTransfer-Encoding: chunked\n\n",
        "POST http://api.example.com/ HTTP/1.1\nContent-Length: 1\nContent-Length: 2\n\n",
        "POST http://api.example.com/ HTTP/1.1\nContent-Length: -1\n\n",
        "GET http://api.example.com/ HTTP/1.1\n Folded: x\n\n",
        "get http://api.example.com/ HTTP/1.1\n\n",
    ],
)
async def test_a_request_that_could_be_read_in_two_ways_is_refused(folder: Path, request_text: str) -> None:
    assert (await answer(proxy(80), folder, request_text)).startswith("HTTP/1.1 400")


async def test_a_head_without_end_is_cut_off(folder: Path, origin: Origin) -> None:
    async with proxy(origin.port).listening(folder / "s"):
        text = await through(folder / "s", "GET http://x/ HTTP/1.1\n", more=b"A: b\r\n" * 20_000)
    assert text.startswith(b"HTTP/1.1 502")


async def test_bytes_are_counted_and_end_at_the_cap(folder: Path) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(65_536))
                await writer.drain()

    async with listening(flood) as port:
        made = proxy(port, caps=Caps(bytes=1_000_000))
        async with made.listening(folder / "s"):
            assert len(await through(folder / "s", connect("api.example.com", port))) < 1_200_000
            assert b"403" in await through(folder / "s", connect("api.example.com", port))


async def test_silent_clients_hold_no_more_than_is_allowed_at_once(folder: Path, origin: Origin) -> None:
    async with proxy(origin.port, caps=Caps(at_once=3)).listening(folder / "s"):
        before = descriptors()
        clients = [await asyncio.open_unix_connection(folder / "s") for _ in range(20)]
        sent_away = [await reader.read() for reader, _ in clients[3:]]
        assert all(b"Too many" in text for text in sent_away)
        assert descriptors() - before - len(clients) == 3
        for _, writer in clients:
            writer.close()
        await until(lambda: descriptors() == before)
        assert b"hello" in await through(folder / "s", get("api.example.com", origin.port))


async def test_who_does_not_take_what_was_asked_for_is_cut_off(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else what is under way to it would hold a descriptor for ever."""

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
        writer.close()

    monkeypatch.setattr(egress, "HEAD_SECONDS", 0.2)
    async with listening(pour) as port:
        made = proxy(port, caps=Caps(idle=0.2))
        async with made.listening(folder / "s"):
            before = descriptors()
            _, writer = await asyncio.open_unix_connection(folder / "s", limit=1024)
            writer.write(connect("api.example.com", port).replace("\n", "\r\n").encode())
            await until(lambda: made.events)
            await until(lambda: made._open == 0)
            await until(lambda: descriptors() == before + 1)
            writer.close()


async def test_connections_are_bounded_and_counted_anew_each_hour(folder: Path, origin: Origin) -> None:
    told: list[str] = []
    made = proxy(origin.port, caps=Caps(connections=2, period=0.3), summed_up=told.append)
    async with made.listening(folder / "s"):
        for _ in range(2):
            assert b"hello" in await through(folder / "s", get("api.example.com", origin.port))
        assert b"in an hour" in await through(folder / "s", get("api.example.com", origin.port))
        await until(lambda: told)
        assert b"hello" in await through(folder / "s", get("api.example.com", origin.port))


async def test_what_was_reached_and_refused_is_summed_up_in_a_line(folder: Path, origin: Origin) -> None:
    told: list[str] = []
    async with proxy(origin.port, summed_up=told.append).listening(folder / "s"):
        for host in ("api.example.com", "a.example.org", "api.example.com"):
            await through(folder / "s", get(host, origin.port))
        for number in range(30):
            await through(folder / "s", get(f"h{number}.example.net", 80))
    assert len(told) == 1
    reached, refused = told[0].split("; ")
    hosts = f"api.example.com:{origin.port} (2), a.example.org:{origin.port} (1)"
    assert reached == f"Ways out: {hosts} reached with 0.0 MiB in all"
    assert refused.startswith("others (10), h0.example.net:80 (1), ")
    assert refused.endswith("h19.example.net:80 (1) refused.")


async def test_who_asks_for_nothing_is_told_nothing(folder: Path) -> None:
    told: list[str] = []
    async with proxy(80, summed_up=told.append).listening(folder / "s"):
        pass
    assert told == []


async def test_a_silent_host_is_given_up(folder: Path) -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with listening(silence) as port:
        made = proxy(port, caps=Caps(idle=0.2))
        assert (await answer(made, folder, connect("api.example.com", port))).startswith("HTTP/1.1 200")


async def test_nothing_is_left_when_it_ends(folder: Path) -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with listening(silence) as port:
        async with proxy(port).listening(folder / "s"):
            reader, writer = await asyncio.open_unix_connection(folder / "s")
            writer.write(connect("api.example.com", port).replace("\n", "\r\n").encode())
            await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
    assert not (folder / "s").exists()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "egress"]


@pytest.mark.parametrize("text", ["example.com", "*.example.com", "a.example.com:8443", "EXAMPLE.com."])
def test_a_host_name_can_be_listed(text: str) -> None:
    assert allowed(text).name.endswith("example.com")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "*.com",
        "http://example.com",
        "10.0.0.1",
        "0x7f.1",
        "a b",
        "example.com:0",
        "example.com:http",
        "::1",
    ],
)
def test_what_is_no_host_name_cannot_be_listed(text: str) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        allowed(text)


def test_no_more_than_fifty_hosts_can_be_listed() -> None:
    with pytest.raises(ValueError, match="50"):
        Proxy([allowed(f"h{number}.example.com") for number in range(51)], anywhere)
