"""How uploaded code is, as its runner tells. Nothing is called for that, and nothing that sleeps is woken by it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

import msgspec

from servers.runner.client import RunnerClient
from servers.runner.engine import Capabilities, InstanceInfo
from servers.runner.errors import Refused
from servers.runtimes.base import Health

State = Literal["healthy", "degraded", "unhealthy"]
# A crash that nobody has called it since for so long says nothing of how it is now.
RECENT_SECONDS = 300.0
LOG_LINES, LOG_CHARACTERS = 10, 2_000


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at a runner, which serves to judge all the code it runs; it took so many `milliseconds`."""

    capabilities: Capabilities
    instances: list[InstanceInfo]
    milliseconds: float


async def look(runner: RunnerClient, *, seconds: float) -> Seen | Health:
    """What runs there; where that cannot be told, what holds of all code instead."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            capabilities, instances = await runner.probe(), await runner.instances()
    except TimeoutError:
        return _unknown(f"Its runner has not answered within {seconds:g} s.")
    except Refused as refused:
        return _unknown(refused.message)
    except msgspec.DecodeError:
        return _unknown("What its runner answers is not understood; it may be of another version.")
    return Seen(capabilities, instances, (time.monotonic() - began) * 1000)


def _unknown(why: str) -> Health:
    return Health("unknown", why, {"failure": "runner_away"})


async def health(
    seen: Seen, runner: RunnerClient, *, tenant: str, server: str, digest: str, seconds: float
) -> Health:
    """Of the process that was called last: one that was put aside, such as with another secret, says nothing."""
    took = {"milliseconds": seen.milliseconds}
    if not seen.capabilities.is_safe and not seen.capabilities.allows_unsafe:
        return Health(
            "unhealthy", "Its machine cannot hold uploaded code.", took | {"failure": "code_unsafe"}
        )
    wanted = (tenant, server, digest)
    processes = [one for one in seen.instances if (one.tenant, one.server, one.digest) == wanted]
    last = min(processes, key=lambda one: one.silent_for, default=None)
    state, detail, failure = judged(last)
    if last is None or state != "unhealthy":
        return Health(state, detail, took | {"failure": failure})
    return Health(
        state, detail, took | {"failure": failure, "log": await _last_lines(runner, last.instance, seconds)}
    )


def judged(last: InstanceInfo | None) -> tuple[State, str, str]:
    """State, why, and the code that its callers are told."""
    if last is None:
        return "healthy", "It is asleep; the next call starts it.", ""
    match last.state:
        case "broken":
            return "unhealthy", f"It has crashed again and again. The last time {last.reason}.", "code_broken"
        case "crashed" if not last.came_up:
            return "unhealthy", f"It does not come up: {last.reason}.", "code_crashed"
        case "crashed" if last.silent_for < RECENT_SECONDS:
            return (
                "degraded",
                f"It has crashed and rests before it is started again: {last.reason}.",
                "code_resting",
            )
        case "crashed" | "stopped":
            return "healthy", f"It is asleep, since {last.reason}; the next call starts it.", ""
    return "healthy", "", ""


async def _last_lines(runner: RunnerClient, instance: str, seconds: float) -> str:
    """Without secrets, as the runner keeps them; empty when they cannot be had."""
    try:
        async with asyncio.timeout(seconds):
            lines = await runner.logs(instance)
    except (TimeoutError, Refused, msgspec.DecodeError):
        return ""
    return "\n".join(line.text for line in lines[-LOG_LINES:])[-LOG_CHARACTERS:]
