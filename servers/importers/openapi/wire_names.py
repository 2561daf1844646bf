"""Names as a request carries them."""

from __future__ import annotations

import re

MAX_LENGTH = 200
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# OpenAPI says that these are described elsewhere, and parameters of these names are to be ignored.
DESCRIBED_ELSEWHERE = frozenset({"accept", "content-type", "authorization"})
# They frame, route or count the message, so no tool may write them; cookies have a place of their own.
OF_THE_CONNECTION = frozenset(
    "connection content-length cookie expect host http2-settings keep-alive proxy-authorization proxy-connection "
    "te trailer transfer-encoding upgrade mooring-hops".split()
)


def is_token(name: str) -> bool:
    """Whether it can be the name of a header or cookie."""
    return len(name) <= MAX_LENGTH and _TOKEN.fullmatch(name) is not None
