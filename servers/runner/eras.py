"""Which era of the protocol a child speaks, found out once: the first request decides it for the connection's life.

A server of 2026-07-28 answers `server/discover`; any other answer, or none, makes us shake hands. The handshake
declares no client capability, since one process serves many clients and none of them can be asked anything.
"""

from __future__ import annotations

import asyncio

import msgspec
from msgspec import Raw

from servers.protocol.revisions import HANDSHAKE, MODERN, NEWEST_HANDSHAKE
from servers.runner.engine import Era
from servers.runner.relay import Answer, Relay

# A server that stays silent on a method it does not know is asked the old way after this long.
DISCOVER_SECONDS = 10.0
_ABOUT_US = {"name": "mooring-runner", "version": "1"}
_PREFIX = "io.modelcontextprotocol/"
_DISCOVER = msgspec.json.encode(
    {
        "_meta": {
            _PREFIX + "protocolVersion": MODERN,
            _PREFIX + "clientInfo": _ABOUT_US,
            _PREFIX + "clientCapabilities": {},
        }
    }
)
_INITIALIZE = msgspec.json.encode(
    {"protocolVersion": NEWEST_HANDSHAKE, "capabilities": {}, "clientInfo": _ABOUT_US}
)


class Opened(msgspec.Struct, frozen=True):
    """`greeting` is the result of the handshake, or of `server/discover`."""

    era: Era
    greeting: Raw


class _Greeting(msgspec.Struct):
    protocolVersion: str = ""
    supportedVersions: tuple[str, ...] = ()


_greeting = msgspec.json.Decoder(_Greeting)


class Unintelligible(Exception):
    """The child speaks no revision that we know; the message says what it answered."""


async def open_up(relay: Relay, era: Era | str, *, seconds: float) -> Opened:
    """Lock the connection to its era, `probe` being neither known. Raises `Unintelligible`, `TimedOut`, `Died`."""
    if era == "handshake":
        return await _shake_hands(relay, seconds)
    asked = asyncio.create_task(relay.call("server/discover", _DISCOVER, seconds=seconds))
    patience = seconds if era == "modern" else min(DISCOVER_SECONDS, seconds / 2)
    try:
        await asyncio.wait([asked], timeout=patience)
        if asked.done():
            return _discovered(asked.result()) or await _shake_hands(relay, seconds)
        return await _whichever_is_answered(relay, asked, seconds - patience)
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def check(relay: Relay, era: Era, *, seconds: float) -> None:
    """Any answer will do. Raises `TimedOut` and what else a call raises."""
    if era == "modern":
        await relay.call("server/discover", _DISCOVER, seconds=seconds, in_turn=False)
    else:
        await relay.call("ping", b"{}", seconds=seconds, in_turn=False)


async def _whichever_is_answered(relay: Relay, asked: asyncio.Task[Answer], seconds: float) -> Opened:
    """The server is slow to start, or will never answer the first question: both are open now."""
    shaken = asyncio.create_task(_shake_hands(relay, seconds))
    try:
        await asyncio.wait([asked, shaken], return_when=asyncio.FIRST_COMPLETED)
        if asked.done() and not asked.exception() and (opened := _discovered(asked.result())):
            return opened
        return await shaken
    finally:
        shaken.cancel()
        await asyncio.gather(shaken, return_exceptions=True)


def _discovered(answer: Answer) -> Opened | None:
    """None when the answer is not that of a modern server."""
    try:
        versions = _greeting.decode(answer.result).supportedVersions
    except msgspec.DecodeError:
        return None
    return Opened("modern", answer.result) if MODERN in versions else None


async def _shake_hands(relay: Relay, seconds: float) -> Opened:
    answer = await relay.call("initialize", _INITIALIZE, seconds=seconds)
    try:
        version = _greeting.decode(answer.result).protocolVersion
    except msgspec.DecodeError:
        raise Unintelligible(f"it answered `initialize` with {_excerpt(answer)}") from None
    if version not in (*HANDSHAKE, "2024-11-05"):
        raise Unintelligible(f"it speaks revision {version[:40]!r}, which is not known here")
    relay.notify("notifications/initialized")
    return Opened("handshake", answer.result)


def _excerpt(answer: Answer) -> str:
    return bytes(answer.error or answer.result)[:200].decode("utf-8", "replace") or "neither result nor error"
