"""One instance's endpoint at the runner: a message in, its answer out, on the runner's socket."""

from __future__ import annotations

from itertools import count

import aiohttp
from yarl import URL

from servers.runner.engine import Endpoint
from servers.runner.errors import Refused as RunnerRefused
from servers.runtimes.code.envelope import Envelope
from servers.runtimes.code.failures import CutOff, Forgotten, refusal_in
from servers.runtimes.remote.asking import Ask
from servers.runtimes.remote.failures import BadStatus, CallFailed, Refused, invalid, too_large
from servers.runtimes.remote.messages import error_in, request
from servers.runtimes.remote.wire import read_body
from servers.runtimes.upstreams import Upstream

# The last lines of a log come along with some refusals.
REFUSAL_BYTES = 1024 * 1024


class Line:
    """The era is known and the handshake is the runner's matter, so each request stands by itself."""

    def __init__(self, endpoint: Endpoint, upstream: Upstream, envelope: Envelope) -> None:
        self._upstream = upstream
        self._url = URL(endpoint.url)
        self._headers = {
            "Authorization": f"Bearer {endpoint.bearer}",
            "Accept": "application/json",
            "Content-Type": "application/json",
        }
        self._envelope, self._is_modern = envelope, endpoint.era == "modern"
        self._ids = count(1)

    async def ask(self, ask: Ask) -> tuple[int, bytes]:
        """The id given to the request, and the answer to it.

        Leaving early hangs up, which is how the runner is told to cancel. Raises CallFailed, and the runner's
        refusals as they are.
        """
        number = next(self._ids)
        meta = self._envelope.of(ask.identity.caller, is_modern=self._is_modern)
        response = await self._posted(request(number, ask.method, {**ask.params, "_meta": meta}))
        if response.status >= 300:
            raise await _refused(response, number)
        body = await read_body(response, ask.limit)
        if body is None:
            raise too_large(ask.limit)
        return number, body

    async def _posted(self, body: bytes) -> aiohttp.ClientResponse:
        try:
            return await self._upstream.session.post(
                self._url, headers=self._headers, data=body, allow_redirects=False
            )
        except aiohttp.ClientConnectorError:
            raise Forgotten from None  # nobody was there who could have taken it
        except (aiohttp.ClientConnectionError, OSError):
            raise CutOff from None
        except aiohttp.ClientError:
            raise invalid("The runner's answer was not valid HTTP.") from None


async def _refused(response: aiohttp.ClientResponse, number: int) -> CallFailed | RunnerRefused:
    body = await read_body(response, REFUSAL_BYTES) or b""
    refused = refusal_in(body)
    if refused is not None:
        return refused
    error, _ = error_in(body, number)
    return BadStatus(response.status) if error is None else Refused(error)
