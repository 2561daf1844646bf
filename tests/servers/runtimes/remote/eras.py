"""Every era of upstreams, and what a test has them say."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from servers.runtimes.base import Outcome
from tests.servers.runtimes.remote.peers import Peer, error, handshake, modern, result, stream

Json = dict[str, Any]
ERAS = {"modern": modern, "handshake": handshake(), "events": handshake(as_events=True), "stream": stream}
every_era = pytest.mark.parametrize("era", list(ERAS))


def said(outcome: Outcome) -> str:
    assert outcome.is_error
    return str(outcome.content[0]["text"])


def gives(peer: Peer, value: Json, method: str = "tools/call") -> None:
    async def answer(peer: Peer, request: web.Request, message: Json) -> web.StreamResponse:
        return web.json_response(result(message, value))

    peer.instead[method] = answer


def refuses(peer: Peer, code: int, message: str = "no", data: Any = None, status: int = 200) -> None:
    async def answer(peer: Peer, request: web.Request, asked: Json) -> web.StreamResponse:
        return web.json_response(error(asked, code, message, data), status=status)

    for method in ("tools/call", "resources/read", "prompts/get"):
        peer.instead[method] = answer
