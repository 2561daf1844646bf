"""The relay and its child's worst behaviour. The children here run without a sandbox: it is our side that is tried."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from servers.runner.engine import KIB, MIB, Limits
from servers.runner.errors import Busy, Died, TimedOut, TooLarge
from servers.runner.logs import LINES, LONGEST_LINE, Log
from servers.runner.relay import Relay
from tests.sandboxes import PROGRAMS

TIGHT = Limits(line=MIB, in_flight=2, queue=2)


@asynccontextmanager
async def child(
    kind: str, limits: Limits = TIGHT, secrets: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Relay, Log]]:
    pipe = subprocess.PIPE
    program = str(PROGRAMS / "hostile.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", program, kind.replace(" ", "_"), stdin=pipe, stdout=pipe, stderr=pipe
    )

    def kill() -> None:
        if process.returncode is None:
            process.kill()

    log = Log(secrets)
    relay = Relay(process, limits, log, kill)
    try:
        yield relay, log
    finally:
        await relay.stop(0)
    assert relay.gone.done()
    assert relay.in_flight == 0


async def ask(
    relay: Relay, method: str = "ping", seconds: float = 10, in_turn: bool = True, **params: Any
) -> Any:
    body = json.dumps(params).encode()
    return msgspec.json.decode((await relay.call(method, body, seconds=seconds, in_turn=in_turn)).result)


@asynccontextmanager
async def watched_loop() -> AsyncIterator[list[float]]:
    """The longest time, of this thread's processor, that anybody kept the event loop from turning.

    Not the time of the clock, which a busy machine stretches.
    """
    longest = [0.0]

    async def turn() -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            longest[0] = max(longest[0], time.thread_time() - began)

    task = asyncio.create_task(turn())
    yield longest
    task.cancel()


async def test_a_call_and_its_answer_go_back_and_forth() -> None:
    async with child("") as (relay, _):
        assert await ask(relay, "tools/call", name="echo", arguments={"a": "ä\n"}) == {
            "method": "tools/call",
            "params": {"name": "echo", "arguments": {"a": "ä\n"}},
        }


async def test_calls_of_many_are_told_apart() -> None:
    async with child("", Limits()) as (relay, _):
        answers = await asyncio.gather(*(ask(relay, "m", n=number) for number in range(60)))
        assert [answer["params"]["n"] for answer in answers] == list(range(60))


async def test_a_line_break_between_tokens_does_not_begin_another_message() -> None:
    async with child("") as (relay, _):
        smuggled = b'{"a":1,\n\r"b":{"jsonrpc":"2.0",\n"method":"dies"}}'
        answer = msgspec.json.decode((await relay.call("m", smuggled, seconds=10)).result)
        assert answer["params"] == {"a": 1, "b": {"jsonrpc": "2.0", "method": "dies"}}


# ---- a child without manners -----------------------------------------------------------------------------


async def test_an_endless_line_ends_the_child_and_not_our_memory() -> None:
    async with child("endless line") as (relay, _), watched_loop() as longest:
        with pytest.raises(Died, match="a line of more than 1048576 bytes"):
            await ask(relay, "misbehave")
    assert longest[0] < 0.05


FLOODS = [
    "flood of junk",
    "flood of notifications",
    "flood of its log",
    "questions",
    "endless line in its log",
]


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_holds_up_neither_the_event_loop_nor_the_answer_behind_it(kind: str) -> None:
    async with child(kind) as (relay, log), watched_loop() as longest:
        assert await ask(relay, "misbehave", seconds=30) == {}
        assert (await ask(relay, "m", n=1))["params"] == {"n": 1}
        assert sum(len(line.text) for line in log.after(0)) <= 256 * KIB + LONGEST_LINE
        assert len([line for line in log.after(0) if line.source != "runner"]) <= LINES
    assert longest[0] < 0.05


async def test_junk_is_counted_and_shown_in_the_log() -> None:
    async with child("flood of junk") as (relay, log):
        await ask(relay, "misbehave", seconds=30)
        assert relay.junk == 100_000
        assert log.after(0)[0].source == "stdout"


async def test_json_that_is_nested_without_end_is_junk() -> None:
    async with child("deep nesting") as (relay, _):
        assert await ask(relay, "misbehave") == {}
        assert relay.junk == 1


async def test_invalid_text_is_mended_so_that_its_readers_can_be_strict() -> None:
    async with child("invalid text") as (relay, _):
        assert await ask(relay, "misbehave") == {"text": "\ufffd\ufffd"}


async def test_answers_that_nobody_asked_for_are_dropped() -> None:
    async with child("answers nobody asked for") as (relay, _):
        assert await ask(relay, "misbehave") == {}
        assert (await ask(relay))["method"] == "ping"


async def test_only_the_first_of_two_answers_counts() -> None:
    async with child("answers twice") as (relay, _):
        assert await ask(relay, "misbehave") == {"first": 1}
        assert (await ask(relay))["method"] == "ping"


async def test_death_fails_the_calls_that_run_and_tells_the_last_words() -> None:
    async with child("dies") as (relay, _):
        waiting = [asyncio.create_task(ask(relay, "wait", seconds=60)) for _ in range(2)]
        await asyncio.sleep(0)
        began = time.monotonic()
        with pytest.raises(Died) as told:
            await relay.call("misbehave", b"{}", seconds=60, in_turn=False)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert time.monotonic() - began < 1
        assert [type(result) for result in results] == [Died, Died]
        assert told.value.message == "The server's process is gone: it ended with code 7."
        assert told.value.data["log"][-1] == "why it died"
        with pytest.raises(Died):
            await ask(relay)


async def test_a_child_that_closes_its_output_is_over() -> None:
    async with child("closes its output") as (relay, _):
        with pytest.raises(Died, match="it closed its output"):
            await ask(relay, "misbehave")


# ---- bounds ----------------------------------------------------------------------------------------------


async def test_calls_beyond_the_slots_wait_and_beyond_the_queue_are_refused() -> None:
    async with child("") as (relay, _):
        waiting = [asyncio.create_task(ask(relay, "wait", seconds=60)) for _ in range(4)]
        await until(lambda: relay.in_flight == 4)
        with pytest.raises(Busy) as told:
            await ask(relay)
        assert told.value.message == "2 calls are running and 2 wait. Try again in a moment."
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert (await ask(relay))["method"] == "ping"


async def test_a_time_out_tells_the_child_and_frees_the_slot() -> None:
    async with child("", Limits(line=MIB, in_flight=1, queue=0)) as (relay, log):
        with pytest.raises(TimedOut, match=r"within 0\.1 s"):
            await ask(relay, "wait", seconds=0.1)
        assert (await ask(relay))["method"] == "ping"
        await until(lambda: any(line.startswith("cancelled ") for line in log.tail()))


async def test_whoever_hangs_up_frees_the_slot_too() -> None:
    async with child("", Limits(line=MIB, in_flight=1, queue=0)) as (relay, log):
        call = asyncio.create_task(ask(relay, "wait", seconds=60))
        await until(lambda: relay.in_flight == 1)
        call.cancel()
        await asyncio.wait([call])
        assert relay.in_flight == 0
        await until(lambda: any(line.startswith("cancelled ") for line in log.tail()))


async def test_a_message_beyond_the_line_limit_is_not_sent() -> None:
    async with child("") as (relay, _):
        with pytest.raises(TooLarge):
            await relay.call("m", json.dumps({"a": "x" * MIB}).encode(), seconds=5)


async def test_a_child_that_does_not_read_costs_a_time_out_and_no_more() -> None:
    async with child("stops reading") as (relay, _):
        stuck = asyncio.create_task(ask(relay, "misbehave", seconds=60))
        await until(lambda: relay.in_flight == 1)
        with pytest.raises(TimedOut):
            await ask(relay, "m", seconds=0.3, a="x" * 900 * KIB)
        for _ in range(1_000):
            relay.notify("notifications/anything", json.dumps({"a": "x" * 1000}).encode())
        assert relay._stdin.transport.get_write_buffer_size() < 2 * MIB
        stuck.cancel()
        await asyncio.wait([stuck])


async def test_callers_who_lose_patience_leave_no_more_than_one_message_behind() -> None:
    async with child("stops reading") as (relay, _):
        stuck = asyncio.create_task(ask(relay, "misbehave", seconds=60))
        await until(lambda: relay.unanswered_since is not None)
        for _ in range(5):
            asked = [ask(relay, "m", seconds=0.1, in_turn=False, a="x" * 900 * KIB) for _ in range(4)]
            results = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(result) for result in results] == [TimedOut] * 4
        assert relay._stdin.transport.get_write_buffer_size() < MIB
        stuck.cancel()
        await asyncio.wait([stuck])


async def test_large_messages_follow_one_another_to_a_child_that_reads() -> None:
    async with child("", Limits()) as (relay, _):
        answers = await asyncio.gather(*(ask(relay, "m", n=n, a="x" * MIB) for n in range(10)))
        assert [answer["params"]["n"] for answer in answers] == list(range(10))


async def test_an_answer_that_nobody_waits_for_is_no_sign_of_life() -> None:
    async with child("answers without reading") as (relay, _):
        stuck = asyncio.create_task(ask(relay, "misbehave", seconds=60))
        await until(lambda: relay.unanswered_since is not None)
        since = relay.unanswered_since
        await until(lambda: relay.junk)
        assert relay.unanswered_since == since
        stuck.cancel()
        await asyncio.wait([stuck])


async def test_a_late_answer_to_an_abandoned_call_is_a_sign_of_life_once() -> None:
    async with child("answers late and twice") as (relay, _):
        with pytest.raises(TimedOut):
            await ask(relay, "misbehave", seconds=0.1)
        since = relay.unanswered_since
        stuck = asyncio.create_task(ask(relay, "wait", seconds=60))
        await until(lambda: relay.unanswered_since != since)
        since = relay.unanswered_since
        relay.notify("notifications/again")
        await until(lambda: relay.junk)
        assert relay.unanswered_since == since
        stuck.cancel()
        await asyncio.wait([stuck])


async def test_a_child_cannot_guess_what_it_will_be_asked() -> None:
    async with child("guesses") as (relay, _):
        with pytest.raises(TimedOut):
            await ask(relay, "misbehave", seconds=0.1)
        for _ in range(2):
            with pytest.raises(TimedOut):
                await ask(relay, "wait", seconds=0.1)
        since = relay.unanswered_since
        assert since is not None
        stuck = asyncio.create_task(ask(relay, "begin", seconds=60))
        await until(lambda: relay.junk)
        assert relay.unanswered_since == since
        stuck.cancel()
        await asyncio.wait([stuck])


async def test_no_more_than_so_many_abandoned_calls_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servers.runner.relay.ABANDONED", 2)
    async with child("", Limits()) as (relay, _):
        asked = [ask(relay, "wait", seconds=0.2) for _ in range(5)]
        await asyncio.gather(*asked, return_exceptions=True)
        assert len(relay._abandoned) == 2


async def test_stopping_closes_the_input_first() -> None:
    async with child("") as (relay, _):
        await ask(relay)
        await relay.stop(10)
        assert relay._process.returncode == 0  # it ended by itself, at the end of its input


async def until(condition: Any, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


# ---- the log ---------------------------------------------------------------------------------------------


def test_secrets_are_taken_out_in_every_shape_they_may_have() -> None:
    secret = 'line one "quoted"\nline two of the key'
    log = Log([secret, "abc", "tok_123456"])
    log.add("stderr", f"as it is: {secret}")
    log.add("stderr", "a line of it: line two of the key!")
    log.add("stderr", "as JSON: " + json.dumps({"a": secret}))
    log.add("stderr", "in a URL: https://x/?k=tok_123456&abc")
    log.add("stderr", "at the cut: " + "y" * (LONGEST_LINE - 16) + "tok_123456")
    texts = log.tail()
    assert texts[:4] == [
        "as it is: ***",
        "a line of it: ***!",
        'as JSON: {"a": "***"}',
        "in a URL: https://x/?k=***&abc",
    ]
    assert "tok" not in texts[4]


def test_a_flood_of_lines_is_counted() -> None:
    now = [0.0]
    log = Log(clock=lambda: now[0])
    for number in range(150):
        log.add("stderr", str(number))
    assert len(log.after(0)) == LINES
    now[0] = 11.0
    log.add("stderr", "later")
    assert log.tail()[-2:] == [f"50 lines were dropped: more than {LINES} in 10 s.", "later"]
    assert [line.number for line in log.after(LINES)] == [LINES + 1, LINES + 2]


def test_the_log_keeps_the_last_of_it() -> None:
    now = [0.0]
    log = Log(clock=lambda: now[0])
    for number in range(60):
        now[0] += 20
        log.add("stderr", f"{number} " + "x" * LONGEST_LINE)
    kept = log.after(0)
    assert sum(len(line.text) for line in kept) <= 256 * KIB
    assert kept[-1].number == 60
