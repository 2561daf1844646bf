"""Whether the origin of http tools is there. No tool is called and no credential is shown."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from servers.runtimes import hops
from servers.runtimes.base import Health
from servers.runtimes.upstreams import Upstream

_HEADERS = {"User-Agent": "Mooring", "Accept": "*/*"} | hops.FIRST
# Bad gateway, unavailable, gateway timeout: said in place of the origin, or by one that serves nobody.
_AWAY = frozenset({502, 503, 504})


async def probe(upstream: Upstream, *, seconds: float = 5.0) -> Health:
    """Ask for the head of the origin's root. Even one that answers that there is no such page is alive; not one that
    says that it, or what is behind it, is away.

    It passes by the limit of calls and the breaker, which tell of calls and not of the upstream.
    """
    began = time.monotonic()
    upstream.probing += 1
    try:
        async with asyncio.timeout(seconds):
            response = await upstream.session.request(
                "HEAD", upstream.origin + "/", headers=_HEADERS, allow_redirects=False
            )
    except TimeoutError:
        return _unhealthy(began, "upstream_timeout", f"It did not answer within {seconds:g} s.")
    except (aiohttp.ClientConnectionError, OSError):
        return _unhealthy(began, "upstream_unreachable", "It could not be reached.")
    except aiohttp.ClientError:
        return _unhealthy(began, "upstream_invalid", "Its answer was not valid HTTP.")
    finally:
        upstream.probing -= 1
    response.close()  # not used again: what some send after a HEAD is not to be met by a call
    return _answered(response.status, _about(began))


def _answered(status: int, data: dict[str, object]) -> Health:
    if status == 429:
        return Health("degraded", "It refuses requests because there are too many.", data)
    # What does not know HEAD says 501, and is none the worse. A 500 may be of this one page, which no tool asks for.
    if status >= 500 and status != 501:
        data |= {"failure": "upstream_failed"}
        return Health(
            "unhealthy" if status in _AWAY else "degraded", f"It answers with status {status}.", data
        )
    return Health("healthy", "", data)


def _unhealthy(began: float, failure: str, sentence: str) -> Health:
    return Health("unhealthy", sentence, _about(began) | {"failure": failure})


def _about(began: float) -> dict[str, object]:
    return {"milliseconds": round((time.monotonic() - began) * 1000, 1)}
