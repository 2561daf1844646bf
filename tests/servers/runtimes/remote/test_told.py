"""What an upstream says of a request is told on; what is of another, or of nothing, is passed over."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from servers.runtimes.remote.told import LOG, PROGRESS, Told


@dataclass
class Ear:
    wants_progress: bool = True
    log_level: str = "notice"
    heard: list[Any] = field(default_factory=list)

    async def progress(self, progress: float, total: float | None = None, message: str = "") -> None:
        self.heard.append(progress)

    async def log(self, level: str, data: Any, logger: str = "") -> None:
        self.heard.append((level, data))


def said(**params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": "any", "params": params}).encode()


async def test_progress_only_grows() -> None:
    ear = Ear()
    told = Told(ear, 7)
    for progress in (1, 1, 3, 2, 2.5, 4):
        await told.hear(PROGRESS, said(progressToken=7, progress=progress))
    assert ear.heard == [1, 3, 4]


@pytest.mark.parametrize(
    "message",
    [
        said(progressToken=8, progress=1),
        said(progressToken="other", progress=1),
        said(progress=1),
        said(progressToken=7),
        said(progressToken=7, progress="half"),
        said(progressToken=7, progress=True),
        b'{"params": [7]}',
        b"{}",
        b'{"params": {"progressToken": 7, "progress": 1e999}}',
        b"[" * 100_000,
    ],
)
async def test_progress_that_cannot_be_of_this_request_is_passed_over(message: bytes) -> None:
    ear = Ear()
    await Told(ear, 7).hear(PROGRESS, message)
    assert ear.heard == []


async def test_progress_is_told_to_nobody_who_did_not_ask() -> None:
    ear = Ear(wants_progress=False)
    told = Told(ear, 7)
    await told.hear(PROGRESS, said(progressToken=7, progress=1))
    assert (ear.heard, told.meta) == ([], {})


async def test_logs_are_told_from_the_wanted_level_on() -> None:
    ear = Ear()
    told = Told(ear, 7)
    for level in ("debug", "info", "notice", "emergency", "loud", ""):
        await told.hear(LOG, said(level=level, data=[level]))
    assert ear.heard == [("notice", ["notice"]), ("emergency", ["emergency"])]


async def test_without_a_level_no_log_is_told() -> None:
    ear = Ear(log_level="")
    await Told(ear, 7).hear(LOG, said(level="emergency", data=1))
    assert ear.heard == []


async def test_other_notifications_say_nothing_to_a_caller() -> None:
    ear = Ear()
    await Told(ear, 7).hear("notifications/tools/list_changed", said())
    assert ear.heard == []
