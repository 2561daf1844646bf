"""How many installations a request has come through, so that calls in a circle come to an end.

What is asked of an upstream says its number, which is one more than that of the request it is asked for. The number
travels in the context: else everything between the gateway and the connection would have to hand it on, for the sake
of calls that hardly ever are.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextvars import ContextVar
from typing import TypeVar

from multidict import CIMultiDict

HEADER = "Mooring-Hops"
# Nobody builds longer chains on purpose.
MOST = 5
# Of the request that came from outside.
FIRST = {HEADER: "1"}

T = TypeVar("T")
_behind: ContextVar[int] = ContextVar("hops", default=0)


async def after(hops: int, work: Awaitable[T]) -> T:
    """Do work for a request that has so many hops behind it."""
    token = _behind.set(hops)
    try:
        return await work
    finally:
        _behind.reset(token)


def counted(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """Headers of a request, FIRST among them, with the number it has; for calls from outside they are the same."""
    hops = _behind.get()
    if not hops:
        return headers
    headers = headers.copy()
    headers[HEADER] = str(hops + 1)
    return headers
