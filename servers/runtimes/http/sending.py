"""A request by way of aiohttp, for a quarter less CPU time a call than its session's own."""

from __future__ import annotations

import asyncio

import aiohttp

from servers.runtimes import hops
from servers.runtimes.http.request import Request

# With these, aiohttp writes a content type of its own for a body that is not there, unless told not to.
_BODY_EXPECTED = frozenset({"POST", "PUT", "PATCH"})
_NO_CONTENT_TYPE = ("Content-Type",)


async def send(session: aiohttp.ClientSession, method: str, request: Request) -> aiohttp.ClientResponse:
    """Send over a connection of the session's connector, which guards it, and return when the head has come.

    The session's own way does the same, and then looks after cookies, redirects, repetitions, proxies, traces
    and timers, none of which may be or is used here. Raises aiohttp.ClientError and OSError.
    """
    connector = session.connector
    assert connector is not None  # only a closed session has none
    asked = aiohttp.ClientRequest(
        method,
        request.url,
        headers=hops.counted(request.headers),
        data=request.body,
        skip_auto_headers=_NO_CONTENT_TYPE if request.body is None and method in _BODY_EXPECTED else None,
        loop=asyncio.get_running_loop(),
        session=session,
    )
    connection = await connector.connect(asked, [], session.timeout)
    response: aiohttp.ClientResponse | None = None
    try:
        assert connection.protocol is not None  # only one given back has none
        connection.protocol.set_response_params(skip_payload=method == "HEAD", read_until_eof=True)
        response = await asked.send(connection)
        return await response.start(connection)
    except BaseException:
        if response is not None:
            response.close()
        connection.close()
        raise
