"""Remembered answers in Redis: seen by all, and never what a call waits for."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

import pytest
from django.conf import settings

from servers.pipeline import shared_answers
from servers.pipeline.shared_answers import RedisAnswers


@pytest.fixture
async def answers() -> AsyncIterator[RedisAnswers]:
    if not settings.REDIS_URL:
        pytest.skip("The embedded set-up has no Redis.")
    made = RedisAnswers(settings.REDIS_URL, seconds=10)
    yield made
    await made.close()


async def test_what_one_process_puts_there_another_finds(answers: RedisAnswers) -> None:
    key, other = os.urandom(32), RedisAnswers(settings.REDIS_URL, seconds=10)
    await answers.put(key, b"value", 60)
    assert await other.get(key) == b"value"
    assert await other.get(os.urandom(32)) is None
    await other.close()


async def test_an_answer_expires_by_itself(answers: RedisAnswers) -> None:
    key = os.urandom(32)
    await answers.put(key, b"value", 60)
    assert 0 < await answers._redis.ttl(shared_answers.PREFIX + key) <= 60


async def test_a_redis_that_is_gone_or_silent_costs_one_short_wait_and_is_then_left_alone() -> None:
    accepted = []

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        await reader.read()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    silent = RedisAnswers(f"redis://127.0.0.1:{port}/0")
    began = time.monotonic()
    assert await silent.get(b"key") is None
    assert time.monotonic() - began < 1
    for _ in range(1_000):
        await silent.put(b"key", b"value", 60)
    assert len(accepted) == 1
    await silent.close()
    for writer in accepted:
        writer.close()
    server.close()
    await server.wait_closed()
    gone = RedisAnswers(f"redis://127.0.0.1:{port}/0")
    assert await gone.get(b"key") is None
    await gone.close()
