"""Sending one complete answer."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

from servers.gateway.direct import Direct
from servers.gateway.request import Send

# To compress more than a megabyte would keep the event loop from everybody else for longer than it saves.
GZIP_FROM, GZIP_TO = 8 * 1024, 1024 * 1024
JSON = (b"content-type", b"application/json")
TEXT = (b"content-type", b"text/plain; charset=utf-8")
NO_STORE = (b"cache-control", b"no-store")
Header = tuple[bytes, bytes]


async def send_answer(
    send: Send,
    status: int,
    body: bytes,
    headers: Sequence[Header] = (),
    *,
    kind: Header = JSON,
    accepted: Mapping[str, str] | None = None,
) -> None:
    """Send status, headers and body; JSON over 8 KB is compressed when the client takes gzip."""
    extra: tuple[Header, ...] = ()
    if (
        GZIP_FROM < len(body) <= GZIP_TO
        and accepted is not None
        and takes_gzip(accepted.get("accept-encoding", ""))
    ):
        body = zlib.compress(body, 1, wbits=31)
        extra = ((b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))
    fields = [kind, (b"content-length", b"%d" % len(body)), NO_STORE, *extra, *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def sent_directly(
    direct: Direct | None, status: int, body: bytes, headers: Iterable[Header], *, kind: Header
) -> bool:
    """The same at once, for what is not large enough to be compressed; False where that is not open."""
    if direct is None or len(body) > GZIP_FROM:
        return False
    head = b"%b: %b\r\ncontent-length: %d\r\n%b: %b\r\n" % (*kind, len(body), *NO_STORE)
    for field in headers:
        head += b"%b: %b\r\n" % field
    return direct.answer(status, head, body)


def takes_gzip(accept_encoding: str) -> bool:
    for part in accept_encoding.split(","):
        name, _, weight = part.strip().partition(";")
        if name.strip().lower() in {"gzip", "*"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
