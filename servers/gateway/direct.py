"""A shorter way to the connection of a request, where the server offers one.

An ASGI application is given its body, and gives its answer away, by awaiting messages. Nearly every call's body is
there when it begins, and its answer is one piece: then that is a fifth of what a call costs. Whoever serves us may
put a `Direct` under EXTENSION into the scope's extensions; everything works without it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

EXTENSION = "mooring.direct"


class Direct(Protocol):
    """Of one request. Neither method waits, and either may refuse: then the messages of ASGI are the way."""

    def body(self) -> bytes | None:
        """The whole body, once; None while some of it has not arrived."""

    def answer(self, status: int, head: bytes, body: bytes) -> bool:
        """Send an answer whose head fields are written out, each with its line end, Content-Length among them."""


def direct_of(scope: Mapping[str, Any]) -> Direct | None:
    extensions = scope.get("extensions")
    return None if extensions is None else extensions.get(EXTENSION)
