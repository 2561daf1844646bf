"""Fetching one document for a person who typed its address."""

from __future__ import annotations

import asyncio

import aiohttp

from mooring.egress.guard import Guard, default_guard
from mooring.egress.session import session
from mooring.errors import InvalidInput, UpstreamFailed

_ACCEPT = {
    "Accept": "application/json, application/yaml, text/yaml, text/plain;q=0.9, */*;q=0.5",
    "User-Agent": "Mooring",
}


def fetch(url: str, *, limit: int, timeout: float, guard: Guard | None = None) -> bytes:
    """Get the body at `url`, at most `limit` bytes after decompression, within `timeout` seconds.

    For threads without a running loop. Raises InvalidInput for an address Mooring does not fetch and
    UpstreamFailed for everything that goes wrong on the way.
    """
    guard = guard or default_guard()
    guard.check_url(url)
    return asyncio.run(_fetch(url, limit, timeout, guard))


async def _fetch(url: str, limit: int, timeout: float, guard: Guard) -> bytes:
    try:
        async with (
            asyncio.timeout(timeout),
            session(guard) as http,
            http.get(url, headers=_ACCEPT, allow_redirects=False) as response,
        ):
            _check_status(response)
            return await _body(response, limit)
    except TimeoutError:
        raise UpstreamFailed(
            f"The address did not answer within {timeout:g} seconds. Try again later."
        ) from None
    except aiohttp.InvalidURL:
        raise InvalidInput("This is not a web address. Write one such as https://example.com/path.") from None
    except (aiohttp.ClientConnectionError, OSError):
        raise UpstreamFailed(
            "The address could not be reached. Check it. "
            "If it is on a private network, ask the operator to allow that."
        ) from None
    except aiohttp.ClientError:
        raise UpstreamFailed(
            "The address did not give a valid answer. Check that it is the right one."
        ) from None


def _check_status(response: aiohttp.ClientResponse) -> None:
    if 300 <= response.status < 400 and "Location" in response.headers:
        raise UpstreamFailed(
            "The address redirects to another one. Open it in a browser and enter the final one."
        )
    if response.status != 200:
        raise UpstreamFailed(
            f"The address answered with status {response.status}. Check that it is the right one."
        )


async def _body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Count what comes out of the decompressor and hang up at the limit."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            response.close()
            raise UpstreamFailed(f"The document is larger than {limit:,} bytes, the most that is read.")
    return bytes(body)
