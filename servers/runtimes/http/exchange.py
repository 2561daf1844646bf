"""One request to an upstream and its answer, within time, size and the upstream's limits."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec
from multidict import CIMultiDictProxy

from servers.runtimes.alarms import TimeLimit
from servers.runtimes.breaker import Verdict, verdict_of
from servers.runtimes.http.request import Request
from servers.runtimes.http.sending import send
from servers.runtimes.upstreams import Busy, Unavailable, Upstream, Visit

_REPEATABLE = frozenset({"GET", "HEAD"})
# Enough of an error's body for the 2,000 characters that are shown of it.
_ERROR_BYTES = 16 * 1024


class CallFailed(Exception):
    """No answer to map. `failure` is the code for the record, the text is for the caller and tells no address.

    `retry_after` is in seconds, or 0.
    """

    def __init__(self, failure: str, sentence: str, retry_after: int = 0) -> None:
        super().__init__(sentence)
        self.failure = failure
        self.sentence = sentence
        self.retry_after = retry_after


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


async def exchange(
    upstream: Upstream, method: str, request: Request, *, deadline: float, limit: int
) -> Answer:
    """Send `request` and read at most `limit` bytes, counted after decompression, until `deadline` (loop's clock).

    Raises CallFailed. A GET or HEAD whose connection failed before any answer is sent once more, as long as
    the upstream's budget of retries lasts.
    """
    began = asyncio.get_running_loop().time()
    visit = upstream.visit(deadline - began)
    try:
        with TimeLimit(deadline) as time_limit:
            async with visit:
                try:
                    return await _visited(upstream, visit, method, request, limit)
                except asyncio.CancelledError:
                    # A caller who went away says nothing about the upstream; our own limit of time does.
                    visit.verdict = Verdict.FAILED if time_limit.expired else Verdict.UNKNOWN
                    raise
    except TimeoutError:
        raise (_late(deadline - began) if visit.is_admitted else _unavailable(Busy())) from None
    except Unavailable as unavailable:
        raise _unavailable(unavailable) from None


def _late(seconds: float) -> CallFailed:
    return CallFailed(
        "upstream_timeout", f"The upstream did not answer within {seconds:.3g} s. Try again later."
    )


def _unavailable(why: Unavailable) -> CallFailed:
    return CallFailed(why.failure, str(why), why.retry_after)


async def _visited(upstream: Upstream, visit: Visit, method: str, request: Request, limit: int) -> Answer:
    visit.verdict = Verdict.FAILED
    try:
        response = await _sent(upstream, visit, method, request)
    except (aiohttp.ClientConnectionError, OSError):
        raise CallFailed(
            "upstream_unreachable",
            "The upstream could not be reached. Try again later, or check the address in the tool's settings.",
        ) from None
    except aiohttp.ClientError:
        raise CallFailed("upstream_invalid", "The upstream's answer was not valid HTTP.") from None
    try:
        body = await _read(response, limit)
    except (aiohttp.ClientError, OSError):
        response.close()
        raise CallFailed(
            "upstream_invalid", "The upstream's answer broke off or could not be unpacked."
        ) from None
    except BaseException:
        response.close()
        raise
    visit.verdict = verdict_of(response.status)
    if body is None:
        raise CallFailed(
            "answer_too_large", f"The upstream's answer is larger than {limit:,} bytes, the limit."
        )
    return Answer(response.status, response.headers, body)


async def _sent(upstream: Upstream, visit: Visit, method: str, request: Request) -> aiohttp.ClientResponse:
    try:
        return await send(upstream.session, method, request)
    except (aiohttp.ClientConnectionError, OSError):
        if method not in _REPEATABLE or not visit.take_retry():
            raise
    await visit.pause()
    return await send(upstream.session, method, request)


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The body, cut short for an error; None when it is larger than the limit."""
    content = response.content
    is_error = response.status >= 300
    limit = min(limit, _ERROR_BYTES) if is_error else limit
    # readany gives what the decompressor has let out, less than a megabyte at a time: a bomb is never unpacked.
    body = await content.readany()
    if len(body) <= limit and content.at_eof():
        return body
    chunks = [body]
    size = len(body)
    while size <= limit and not content.at_eof():
        chunks.append(await content.readany())
        size += len(chunks[-1])
    if size > limit:
        response.close()
        return b"".join(chunks)[:limit] if is_error else None
    return b"".join(chunks)
