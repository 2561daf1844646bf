"""What tenants can make Mooring talk to. A real listener on loopback counts who gets through."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mooring.egress.fetch import fetch
from mooring.egress.guard import Guard, check_url, is_public
from mooring.egress.session import Unreachable, session, tls
from mooring.errors import InvalidInput, UpstreamFailed

LOOPBACK = ("127.0.0.0/8",)

# Forms of an inner address, of which none may open a connection; {port} is where the listener waits.
EVASIONS = [
    "https://127.0.0.1:{port}/",
    "https://127.0.0.2:{port}/",
    "https://2130706433:{port}/",
    "https://017700000001:{port}/",
    "https://0x7f000001:{port}/",
    "https://0x7f.0.0.1:{port}/",
    "https://0177.0.0.1:{port}/",
    "https://127.1:{port}/",
    "https://127.0.1:{port}/",
    "https://①②⑦.⓪.⓪.①:{port}/",
    "https://127。0。0。1:{port}/",
    "https://0:{port}/",
    "https://0.0.0.0:{port}/",
    "https://[::1]:{port}/",
    "https://[::]:{port}/",
    "https://[::ffff:127.0.0.1]:{port}/",
    "https://[::ffff:7f00:1]:{port}/",
    "https://[::127.0.0.1]:{port}/",
    "https://[64:ff9b::127.0.0.1]:{port}/",
    "https://[64:ff9b:1::127.0.0.1]:{port}/",
    "https://[2002:7f00:1::]:{port}/",
    "https://[fd00:ec2::254]:{port}/",
    "https://[fe80::1%25lo]:{port}/",
    "https://localhost:{port}/",
    "https://LOCALHOST.:{port}/",
    "https://inner.localhost:{port}/",
    "https://10.0.0.1\\@127.0.0.1:{port}/",
    "https://example.com@127.0.0.1:{port}/",
    "https://127.0.0.1.:{port}/",
    "https://169.254.169.254:{port}/latest/meta-data/",
    "https://100.100.100.200:{port}/",
    "http://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/",
]


@dataclass
class Listener:
    port: int
    connections: int = 0
    seen: list[str] = field(default_factory=list)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """Listens on every address of the machine, so that whatever gets through is counted."""
    counted = Listener(0)

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counted.connections += 1
        counted.seen.append(str(writer.get_extra_info("sockname")))
        writer.close()

    server = await asyncio.start_server(on_connect, sock=everywhere())
    counted.port = server.sockets[0].getsockname()[1]
    yield counted
    server.close()
    await server.wait_closed()


def everywhere() -> socket.socket:
    """A bound socket that takes IPv4 and, where the machine has it, IPv6."""
    if not socket.has_dualstack_ipv6():
        return socket.create_server(("0.0.0.0", 0))
    return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)


def lookup_of(names: dict[str, list[str]]) -> Callable[[str, int], list[tuple[Any, ...]]]:
    """A name service that knows `names` only."""

    def lookup(host: str, port: int) -> list[tuple[Any, ...]]:
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [_answer(address, port) for address in names[host]]

    return lookup


def _answer(address: str, port: int) -> tuple[Any, ...]:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


async def get(http: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    async with asyncio.timeout(5), http.get(url, allow_redirects=False) as response:
        return response.status, await response.read()


# ---- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", EVASIONS)
async def test_no_form_of_an_inner_address_opens_a_connection(listener: Listener, form: str) -> None:
    url = form.format(port=listener.port)
    async with session(Guard(ports=[443, listener.port])) as http:
        with pytest.raises(aiohttp.ClientError):
            await get(http, url)
    await asyncio.sleep(0)
    assert listener.connections == 0, listener.seen


@pytest.mark.parametrize("form", EVASIONS)
async def test_an_inner_address_is_refused_before_it_is_fetched(listener: Listener, form: str) -> None:
    guard = Guard(ports=[443, listener.port])
    with pytest.raises((InvalidInput, UpstreamFailed)) as refusal:
        await asyncio.to_thread(fetch, form.format(port=listener.port), limit=1_000, timeout=5, guard=guard)
    assert "127." not in str(refusal.value)
    assert listener.connections == 0


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["93.184.215.14", "127.0.0.1"],
        ["2606:2800:220:1::1", "::1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1"],
        ["fe80::1%lo"],
        [],
    ],
)
async def test_a_name_with_one_inner_address_is_refused_whole(listener: Listener, answers: list[str]) -> None:
    guard = Guard(ports=[443, listener.port])
    async with session(guard, lookup=lookup_of({"mixed.example": answers})) as http:
        with pytest.raises(Unreachable):
            await get(http, f"https://mixed.example:{listener.port}/")
    assert listener.connections == 0


async def test_a_name_that_moves_to_an_inner_address_is_checked_again(listener: Listener) -> None:
    names = {"moving.example": ["127.0.0.2"]}
    guard = Guard(allow=["127.0.0.2/32"])
    async with session(guard, lookup=lookup_of(names)) as http:
        with pytest.raises(Unreachable):  # reached, and hung up on
            await get(http, f"http://moving.example:{listener.port}/")
        assert listener.connections == 1
        names["moving.example"] = ["127.0.0.1"]
        http.connector.clear_dns_cache()  # type: ignore[union-attr]  # a session that is open has one
        with pytest.raises(Unreachable):
            await get(http, f"http://moving.example:{listener.port}/")
    assert listener.connections == 1


async def test_a_redirect_to_an_inner_address_leads_nowhere(listener: Listener, origin: Origin) -> None:
    guard = Guard(allow=["127.0.0.2/32"])
    url = f"http://127.0.0.2:{origin.port}/redirect?to=http://127.0.0.1:{listener.port}/"
    async with session(guard) as http:
        with pytest.raises(Unreachable):
            async with http.get(url):  # one who forgot to turn redirects off
                pass
    assert listener.connections == 0


async def test_a_failure_to_connect_tells_nothing_about_the_inside() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    texts = set()
    async with session(Guard(allow=LOOPBACK), lookup=lookup_of({"in.example": ["10.1.2.3"]})) as http:
        for url in (
            f"http://127.0.0.1:{port}/",
            "http://10.1.2.3/",
            "https://in.example/",
            "https://none.example/",
            f"https://{'a' * 70}.example/",
        ):
            with pytest.raises(Unreachable) as failure:
                await get(http, url)
            texts.add(str(failure.value))
            assert failure.value.__suppress_context__
    assert texts == {"The address could not be reached."}


@pytest.mark.parametrize(
    "address",
    ["93.184.215.14", "8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450:4001:830::200e"],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.9",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:808:808::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


def test_only_https_on_its_own_port_reaches_public_addresses() -> None:
    guard = Guard()
    assert guard.permits("93.184.215.14", 443, plain=False)
    assert not guard.permits("93.184.215.14", 443, plain=True)
    assert not guard.permits("93.184.215.14", 80, plain=True)
    assert not guard.permits("93.184.215.14", 8443, plain=False)


def test_an_allowed_network_is_reached_on_any_port_and_by_http() -> None:
    guard = Guard(allow=["10.0.0.0/8", "fd00::/8"])
    assert guard.permits("10.1.2.3", 8080, plain=True)
    assert guard.permits("::ffff:10.1.2.3", 8080, plain=True)
    assert guard.permits("fd00::1", 22, plain=False)
    assert not guard.permits("192.168.0.1", 443, plain=False)


def test_a_network_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"not a network such as 10\.0\.0\.0/8"):
        Guard(allow=["office"])


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://example.com/", "https://"),
        ("http://example.com/", "https://"),
        ("https://example.com:8443/", "port"),
        ("https://user:word@example.com/", "user name"),
        ("https://", "address"),
        ("nonsense", "https://"),
        ("https://exa mple.com/", "address"),
        ("https://example.com/\r\nHost: inner", "line breaks"),
        ("https://example.com:99999/", "address"),
        ("https://127.0.0.1/", "operator"),
        ("https://localhost/", "operator"),
        ("https://127.1/", "four numbers"),
    ],
)
def test_a_bad_url_is_refused_with_what_to_do(url: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        Guard().check_url(url)


def test_a_good_url_passes() -> None:
    Guard().check_url("https://example.com/openapi.json?a=b")
    Guard().check_url("https://bücher.example/")
    Guard(allow=LOOPBACK).check_url("http://127.0.0.1:8000/openapi.json")
    Guard(allow=LOOPBACK).check_url("http://localhost:8000/openapi.json")


# ---- sessions --------------------------------------------------------------------------------------------


@dataclass
class Origin:
    port: int
    cookies: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async def answer(request: web.Request) -> web.StreamResponse:
        known.cookies.append(request.headers.get("Cookie", ""))
        known.paths.append(request.method + request.path)
        match request.path:
            case "/cookie":
                return web.Response(text="baked", headers={"Set-Cookie": "session=of-tenant-a; Path=/"})
            case "/redirect":
                return web.Response(status=302, headers={"Location": request.query["to"]})
            case "/bomb":
                body = gzip.compress(bytes(64 * 1024 * 1024))
                return web.Response(body=body, headers={"Content-Encoding": "gzip"})
            case "/missing":
                return web.Response(status=404)
            case "/silent":
                await asyncio.Event().wait()
            case "/hangup":
                assert request.transport is not None
                request.transport.close()
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0)
    await site.start()
    known = Origin(runner.addresses[0][1])
    yield known
    await runner.cleanup()


async def test_an_allowed_origin_answers(origin: Origin) -> None:
    async with session(Guard(allow=LOOPBACK)) as http:
        assert await get(http, origin.url("/")) == (200, b"ok")


async def test_a_cookie_of_one_call_is_not_sent_with_the_next(origin: Origin) -> None:
    async with session(Guard(allow=LOOPBACK)) as http:
        await get(http, origin.url("/cookie"))
        await get(http, origin.url("/"))
    assert origin.cookies == ["", ""]


async def test_proxies_of_the_environment_are_not_used(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with session(Guard(allow=LOOPBACK)) as http:
        assert await get(http, origin.url("/")) == (200, b"ok")


async def test_a_request_is_never_repeated_behind_the_callers_back(origin: Origin) -> None:
    async with session(Guard(allow=LOOPBACK)) as http:
        await get(http, origin.url("/"))  # leaves a connection to be used again
        for method in ("PUT", "DELETE", "GET"):
            with pytest.raises(Unreachable):
                async with http.request(method, origin.url("/hangup")):
                    pass
    assert origin.paths == ["GET/", "PUT/hangup", "DELETE/hangup", "GET/hangup"]


async def test_the_callers_limit_of_time_is_not_mistaken_for_a_failure(origin: Origin) -> None:
    async with session(Guard(allow=LOOPBACK)) as http:
        with pytest.raises(TimeoutError):
            async with http.get(origin.url("/silent"), timeout=aiohttp.ClientTimeout(total=0.05)):
                pass


async def test_sessions_share_one_tls_context_and_have_no_limit_of_connections() -> None:
    async with session(Guard()) as one, session(Guard()) as other:
        assert tls() is tls()
        assert one.connector is not other.connector
        assert one.connector is not None
        assert one.connector.limit == 0


# ---- fetching a document ---------------------------------------------------------------------------------


async def fetched(origin: Origin, path: str, *, limit: int = 1_000_000, timeout: float = 5) -> bytes:
    url, guard = origin.url(path), Guard(allow=LOOPBACK)
    return await asyncio.to_thread(fetch, url, limit=limit, timeout=timeout, guard=guard)


async def test_a_document_is_fetched_on_a_thread(origin: Origin) -> None:
    assert await fetched(origin, "/document") == b"ok"
    assert threading.active_count() < 60


async def test_a_document_that_unpacks_to_too_much_is_cut_off(origin: Origin) -> None:
    with pytest.raises(UpstreamFailed, match="larger than 1,000,000 bytes"):
        await fetched(origin, "/bomb")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("/missing", "status 404"), ("/redirect?to=/", "redirects"), ("/hangup", "could not be reached")],
)
async def test_a_failed_fetch_says_what_happened(origin: Origin, path: str, sentence: str) -> None:
    with pytest.raises(UpstreamFailed, match=sentence):
        await fetched(origin, path)


async def test_a_fetch_gives_up_in_time(origin: Origin) -> None:
    with pytest.raises(UpstreamFailed, match=r"within 0\.1 seconds"):
        await fetched(origin, "/silent", timeout=0.1)


def test_a_url_is_checked_by_what_the_installation_allows() -> None:
    with pytest.raises(InvalidInput, match="operator"):
        check_url("https://10.0.0.1/")
