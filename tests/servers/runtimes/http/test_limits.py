"""How much an answer may hold, and how long it may take."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest
from aiohttp import web

from tests.servers.runtimes.conftest import Caller, Origin, never, text_of


async def test_an_answer_over_the_limit_is_refused(call: Caller, origin: Origin) -> None:
    call.answer_bytes = 1_000
    origin.replies("x" * 1_000, Content_Type="text/plain")
    assert not (await call({})).is_error
    origin.replies("x" * 1_001, Content_Type="text/plain")
    outcome = await call({})
    assert (outcome.is_error, outcome.failure) == (True, "answer_too_large")
    assert "1,000 bytes" in text_of(outcome)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_the_limit_counts_unpacked_bytes(call: Caller, origin: Origin, encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    origin.replies(pack(bytes(50_000_000)), Content_Encoding=encoding, Content_Type="text/plain")
    assert (await call({})).failure == "answer_too_large"
    origin.replies(pack(b"small"), Content_Encoding=encoding, Content_Type="text/plain")
    assert text_of(await call({})) == "small"


async def test_a_bomb_in_an_error_is_cut_too(call: Caller, origin: Origin) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    origin.replies(bomb, 500, Content_Encoding="gzip", Content_Type="text/plain")
    assert len(text_of(await call({}))) < 2_100


async def test_an_endless_answer_is_hung_up_on(call: Caller, origin: Origin) -> None:
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 10_000)
        finally:
            gone.set()

    origin.answer = endless
    assert (await call({})).failure == "answer_too_large"
    async with asyncio.timeout(5):
        await gone.wait()


async def test_a_slow_upstream_is_given_up_on(call: Caller, origin: Origin) -> None:
    origin.answer = never
    outcome = await call({"timeout_seconds": 0.05})
    assert (outcome.is_error, outcome.failure) == (True, "upstream_timeout")


async def test_a_slow_body_is_given_up_on(call: Caller, origin: Origin) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"a beginning")
        return await never(request)

    origin.answer = answer
    assert (await call({"timeout_seconds": 0.05})).failure == "upstream_timeout"


async def test_the_deadline_of_the_call_comes_first(call: Caller, origin: Origin) -> None:
    origin.answer = never
    call.seconds = 0.05
    assert (await call({"timeout_seconds": 300})).failure == "upstream_timeout"
