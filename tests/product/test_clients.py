"""Clients that break the rules of HTTP or of JSON: each gets a clear answer, and the next one is served as ever."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.conftest import make_world
from tests.product.processes import ProcessDriver, echo, host, key_for, until

MEBIBYTE = 1024 * 1024
# What the product allows (mooring.cli.serving, servers.gateway.request), and how late a busy machine may be.
HEAD_SECONDS, BODY_SECONDS, LINGER_SECONDS, BUSY = 20.0, 30.0, 5.0, 30.0


class Desk:
    """A published echo server on the process under test, and a key for it."""

    def __init__(self, gateway: ProcessDriver, at: str, key: str) -> None:
        self.gateway = gateway
        self.at = at
        self.key = key

    def head(self, *fields: str, verb: str = "POST") -> bytes:
        lines = [
            f"{verb} /t/{self.at}/mcp HTTP/1.1",
            f"Host: 127.0.0.1:{self.gateway.port}",
            f"Authorization: Bearer {self.key}",
            "Content-Type: application/json",
            "Accept: application/json, text/event-stream",
            *fields,
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def post(self, body: bytes, *fields: str) -> bytes:
        return self.head(f"Content-Length: {len(body)}", "Connection: close", *fields) + body

    def sent(self, request: bytes, *, half_close: bool = False) -> tuple[int, bytes]:
        """Status and body; status 0 when the server hung up without an answer."""
        return parted(self.gateway.raw(request, half_close=half_close))

    def works(self) -> bool:
        reply = self.gateway.modern(
            self.at, "tools/call", {"name": "say", "arguments": {"a": 1}}, key=self.key
        )
        return reply.status == 200 and not reply.result.get("isError")


def parted(answer: bytes) -> tuple[int, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]) if head else 0), body


@pytest.fixture(scope="module")
def opened(serving: ProcessDriver) -> Desk:
    world = make_world()
    return Desk(serving, host(world, echo("say")), key_for(world))


@pytest.fixture
def desk(opened: Desk) -> Iterator[Desk]:
    """Whatever a test does, the server answers as before and holds nothing of it."""
    yield opened
    assert opened.works()
    until(lambda: opened.gateway.metric("mcp_active_connections") <= 1, "calls to end")


PING = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1e400}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":' + b"9" * 100_000 + b"}}",
        b'{"jsonrpc":"2.0","id":' + b"9" * 5_000 + b',"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\\ud800"}}',
        b"\x00" * 1_000,
        b"\xff\xfe\x00",
        b"",
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_body_that_is_no_message_is_a_bad_request(desk: Desk, body: bytes) -> None:
    status, answer = desk.sent(desk.post(body))
    assert status == 400, answer
    assert answer
    assert b'"id":null' not in answer
    assert b"Traceback" not in answer


@pytest.mark.parametrize("number", ["1e308", "-1e308", "9" * 300, "123456789012345678901234567890", "1e-400"])
def test_huge_numbers_in_arguments_are_answered(desk: Desk, number: str) -> None:
    params = f'{{"name": "say", "arguments": {{"a": {number}}}, "_meta": {json.dumps(META)}}}'
    body = f'{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {params}}}'.encode()
    fields = ("MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: say")
    status, answer = desk.sent(desk.post(body, *fields))
    assert status in {200, 400}, answer
    assert json.loads(answer)["id"] == 1


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.mark.parametrize(
    "line",
    [
        b"X-Bad: a\x00b",
        b"X-Bad: a\x01b",
        b"X\x00Bad: a",
        b"X Bad: a",
        b": a",
        b"no colon",
        b"Content-Length: -1",
        b"Content-Length: 1, 2",
        b"Content-Length: five",
        b"Content-Length: " + b"9" * 40,
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Transfer-Encoding: gzip",
    ],
)
def test_heads_that_are_not_http_are_refused(desk: Desk, line: bytes) -> None:
    request = desk.head("Connection: close")[:-2] + line + b"\r\n\r\n" + PING
    status, _ = desk.sent(request, half_close=True)
    assert status in {0, 400, 413}


@pytest.mark.parametrize(
    "field",
    [
        "Authorization: Bearer \xff\xfe",
        "MCP-Protocol-Version: \xe9",
        "Mcp-Session-Id: \xff",
        "Mcp-Name: \x80",
    ],
)
def test_bytes_beyond_ascii_in_headers_are_refused_and_no_bug(desk: Desk, field: str) -> None:
    status, answer = desk.sent(desk.post(PING, field))
    assert 400 <= status < 500, answer


@pytest.mark.parametrize("verb", ["PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "HEAD", "GET"])
def test_other_methods_of_http_are_not_allowed(desk: Desk, verb: str) -> None:
    status, _ = desk.sent(desk.head("Connection: close", verb=verb))
    assert status == 405


@pytest.mark.parametrize("verb", ["BREW", "post", "P" * 10_000, "CONNECT", ""])
def test_methods_that_http_does_not_know_are_refused(desk: Desk, verb: str) -> None:
    status, _ = desk.sent(desk.head("Connection: close", verb=verb), half_close=True)
    assert status in {0, 400, 404, 405}


@pytest.mark.parametrize(
    "line", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 50]
)
def test_other_protocols_are_turned_away(desk: Desk, line: bytes) -> None:
    status, _ = desk.sent(line, half_close=True)
    assert status in {0, 400, 404, 505}


CHUNK = b"%x\r\n" % MEBIBYTE + b"x" * MEBIBYTE + b"\r\n"


def test_ten_megabytes_are_too_large_by_length_and_by_count(desk: Desk) -> None:
    path, headers = f"/t/{desk.at}/mcp", {"authorization": f"Bearer {desk.key}"}
    announced = desk.gateway.send(path, b"x" * (10 * MEBIBYTE), headers=headers)
    counted, _ = desk.sent(desk.head("Transfer-Encoding: chunked", "Connection: close") + CHUNK * 10)
    assert [announced.status, counted] == [413, 413]
    assert b"4194304" in announced.body


def test_a_page_takes_no_endless_body_either(desk: Desk) -> None:
    """Django would put it on the disk, however long it goes on."""
    head = "POST /accounts/login/ HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, _ = desk.sent(head.format(desk.gateway.port).encode() + CHUNK * 40, half_close=True)
    assert status == 413


def test_a_connection_dropped_within_its_body_leaves_nothing(desk: Desk) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", desk.gateway.port)) as connection:
            connection.sendall(desk.head("Content-Length: 1000") + b'{"jsonrpc"')


def test_a_half_closed_connection_is_answered_or_closed_and_never_kept(desk: Desk) -> None:
    whole, cut = desk.post(PING), desk.head("Content-Length: 1000") + b'{"jsonrpc"'
    for request in (whole, cut):
        status, _ = desk.sent(request, half_close=True)
        assert status in {0, 400}


def test_accept_may_come_on_two_lines(desk: Desk) -> None:
    accept = b"Accept: application/json, text/event-stream\r\n"
    request = desk.post(PING)
    assert accept in request
    for lines in (b"Accept: application/json\r\nAccept: text/event-stream\r\n", accept):
        # 400 since a ping needs a session; 406 would be of the media type.
        assert desk.sent(request.replace(accept, lines))[0] == 400
    assert desk.sent(request.replace(accept, b"Accept: text/event-stream\r\nAccept: text/html\r\n"))[0] == 406


@pytest.mark.parametrize(
    "tail", ["/mcp", "@live/mcp", "@draft/mcp", "@1.0.0/mcp", "@\xe9/mcp", "/mcp/", "%00/mcp", ""]
)
@pytest.mark.parametrize("verb", ["GET", "POST", "HEAD"])
def test_the_metadata_of_any_name_is_answered_and_no_bug(desk: Desk, verb: str, tail: str) -> None:
    for name in (desk.at, "no-one/nothing", "x" * 200 + "/y", "../.."):
        path = f"/.well-known/oauth-protected-resource/t/{name}{tail}"
        request = (
            f"{verb} {path} HTTP/1.1\r\nHost: 127.0.0.1:{desk.gateway.port}\r\nConnection: close\r\n\r\n"
        )
        assert desk.sent(request.encode("latin-1"))[0] in {200, 400, 404, 405}


# ---- clients that take their time ------------------------------------------------------------------------


class Dribbler:
    """Sends a request's beginning, then a byte now and then; notes what came back and when the end came."""

    def __init__(self, port: int, beginning: bytes, byte: bytes) -> None:
        self.answer = b""
        self.seconds = 0.0
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=1)
        self._beginning, self._byte = beginning, byte
        self._thread = threading.Thread(target=self._dribble)
        self._thread.start()

    def _dribble(self) -> None:
        began = time.monotonic()
        with self._connection, suppress(ConnectionError):
            self._connection.sendall(self._beginning)
            while time.monotonic() - began < BODY_SECONDS + LINGER_SECONDS + BUSY:
                try:
                    part = self._connection.recv(65_536)
                except TimeoutError:
                    self._connection.sendall(self._byte)
                    continue
                if not part:
                    break
                self.answer += part
        self.seconds = time.monotonic() - began

    def wait(self) -> tuple[int, bytes]:
        self._thread.join()
        return parted(self.answer)


@pytest.fixture(scope="module", autouse=True)
def dribblers(opened: Desk) -> Iterator[dict[str, Dribbler]]:
    """Begun before the other tests of this file, which pass while these take their time."""
    port = opened.gateway.port
    long = "Content-Length: 100000"
    stranger = opened.head(long).replace(opened.key.encode(), b"moor_nobody")
    running = {
        "silent": Dribbler(port, b"", b""),
        "head": Dribbler(port, opened.head()[:-2] + b"X-Long: ", b"x"),
        "body": Dribbler(port, opened.head(long), b" "),
        "stranger": Dribbler(port, stranger, b" "),
        "large": Dribbler(port, opened.head("Content-Length: 10000000"), b" "),
    }
    yield running
    for dribbler in running.values():
        dribbler.wait()


@pytest.mark.parametrize("name", ["silent", "head"])
def test_a_head_that_never_ends_is_hung_up_on(desk: Desk, dribblers: dict[str, Dribbler], name: str) -> None:
    assert dribblers[name].wait() == (0, b"")
    assert HEAD_SECONDS - 1 < dribblers[name].seconds < HEAD_SECONDS + BUSY


def test_a_body_that_dribbles_in_is_a_timeout(desk: Desk, dribblers: dict[str, Dribbler]) -> None:
    status, body = dribblers["body"].wait()
    assert (status, body) != (0, b"")
    assert status == 408
    assert b"30 s" in body
    assert BODY_SECONDS - 1 < dribblers["body"].seconds < BODY_SECONDS + LINGER_SECONDS + BUSY


@pytest.mark.parametrize(("name", "status"), [("stranger", 401), ("large", 413)])
def test_a_body_nobody_waits_for_does_not_keep_its_connection(
    desk: Desk, dribblers: dict[str, Dribbler], name: str, status: int
) -> None:
    assert dribblers[name].wait()[0] == status
    assert dribblers[name].seconds < LINGER_SECONDS + BUSY
