"""What can be wrong with this process and the things it needs, each asked within its own deadline."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from django.conf import settings
from django.db import connections

from mooring.errors import Unavailable
from servers.pipeline import directory, shipping
from servers.pipeline.database_thread import DatabaseThread
from servers.pipeline.journal import RESERVE
from servers.runner.client import RunnerClient
from servers.runner.errors import Refused

# A probe every second from each of several balancers must not become load on the database.
REMEMBERED = 1.0
MEBIBYTE = 1024 * 1024
# Records are shipped twice a second; people who look at the call log notice this many seconds.
LATE = 10.0
# Changes are read twice a second; this is four times missed, and what people are promised is a second.
STALE = 2.0


class State(IntEnum):
    """Ordered from good to bad. Only `UNHEALTHY` takes a process out of the balancer."""

    HEALTHY = 0
    DEGRADED = 1
    UNHEALTHY = 2

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    state: State
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """`ask` is awaited for at most `deadline` seconds; later counts as unhealthy."""

    name: str
    deadline: float
    ask: Callable[[], Awaitable[Finding]]


@dataclass(frozen=True, slots=True)
class Report:
    """Answers of all checks and how many seconds each took."""

    findings: dict[str, tuple[Finding, float]]

    @property
    def state(self) -> State:
        return max((finding.state for finding, _ in self.findings.values()), default=State.HEALTHY)

    def as_dict(self) -> dict[str, object]:
        """Shape: `{"status", "checks": {name: {"status", "detail", "seconds"}}}`."""
        return {
            "status": self.state.word,
            "checks": {
                name: {"status": found.state.word, "detail": found.detail, "seconds": round(seconds, 4)}
                for name, (found, seconds) in self.findings.items()
            },
        }


HEALTHY = Finding(State.HEALTHY)


class Checks:
    """Asks all checks at once, one round at a time, and remembers the answers for a second."""

    def __init__(self, checks: list[Check]) -> None:
        self._checks = {check.name: check for check in checks}
        self._round: asyncio.Task[Report] | None = None
        self._begun_at = 0.0

    def __getitem__(self, name: str) -> Check:
        return self._checks[name]

    async def report(self) -> Report:
        is_old = time.monotonic() - self._begun_at > REMEMBERED
        if self._round is None or (self._round.done() and is_old) or self._is_foreign(self._round):
            self._begun_at = time.monotonic()
            self._round = asyncio.create_task(self._ask_all())
        # Shielded: the one who asked first may hang up while others wait for the same round.
        return await asyncio.shield(self._round)

    @staticmethod
    def _is_foreign(task: asyncio.Task[Report]) -> bool:
        return task.get_loop() is not asyncio.get_running_loop()

    async def _ask_all(self) -> Report:
        checks = list(self._checks.values())
        answers = await asyncio.gather(*(_timed(check) for check in checks))
        return Report({check.name: answer for check, answer in zip(checks, answers, strict=True)})


async def _timed(check: Check) -> tuple[Finding, float]:
    began = time.monotonic()
    try:
        async with asyncio.timeout(check.deadline):
            finding = await check.ask()
    except TimeoutError:
        finding = Finding(State.UNHEALTHY, f"no answer within {check.deadline:g} s")
    except Exception as error:  # noqa: BLE001  # a check that breaks is a finding, not an error of the probe
        finding = Finding(State.UNHEALTHY, type(error).__name__)
    return finding, time.monotonic() - began


# ---- database --------------------------------------------------------------------------------------------

# Waited for twice when the last question is still being asked, which must not be longer than the check may take.
ANSWER_SECONDS = 0.9
_database_thread = DatabaseThread("health-database", seconds=ANSWER_SECONDS)


async def database() -> Finding:
    """Without it a gateway goes on with what it knows, for as long as it takes credentials; all else ends at once."""
    try:
        await _database_thread.ask(_ask_database)
    except Unavailable:
        gateway = directory.running()
        if gateway is None or gateway.is_blind:
            return Finding(State.UNHEALTHY, "it does not answer")
        return Finding(
            State.DEGRADED, "it does not answer; for half a minute, calls go on with what is known"
        )
    return HEALTHY


def _ask_database() -> None:
    with connections[settings.SYSTEM_DATABASE].cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()


# ---- bus -------------------------------------------------------------------------------------------------


async def bus() -> Finding:
    """Redis is asked; the bus in memory is there as long as we are. Calls go on without it, more slowly told."""
    if not settings.REDIS_URL:
        return HEALTHY
    from redis.asyncio import Redis  # only where there is one
    from redis.exceptions import RedisError

    client = Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1)
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        return Finding(State.DEGRADED, type(error).__name__)
    finally:
        await client.aclose()
    return HEALTHY


# ---- disk and memory -------------------------------------------------------------------------------------


async def disk() -> Finding:
    """Where the journal is written. Under its reserve no call is taken."""
    folder = Path(settings.JOURNAL_DIR)
    free = shutil.disk_usage(folder if folder.exists() else _existing(folder)).free
    detail = f"{free // MEBIBYTE} MiB free"
    if free < RESERVE:
        return Finding(State.UNHEALTHY, detail)
    return Finding(State.DEGRADED if free < 8 * RESERVE else State.HEALTHY, detail)


def _existing(folder: Path) -> Path:
    return next(parent for parent in folder.parents if parent.exists())


async def memory() -> Finding:
    """Of the container when it has a limit, else of the machine."""
    available, total = _of_container() or _of_machine()
    detail = f"{available // MEBIBYTE} of {total // MEBIBYTE} MiB available"
    if available < total * 0.02:
        return Finding(State.UNHEALTHY, detail)
    return Finding(State.DEGRADED if available < total * 0.08 else State.HEALTHY, detail)


def _of_container() -> tuple[int, int] | None:
    """Available and total bytes of the control group; pages that can be dropped count as available."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        droppable = _numbers((group / "memory.stat").read_text()).get("inactive_file", 0)
    except (OSError, ValueError):
        return None
    return max(limit - used + droppable, 0), limit


def _of_machine() -> tuple[int, int]:
    try:
        numbers = _numbers(Path("/proc/meminfo").read_text().replace(":", ""))
    except OSError:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        return pages * size, pages * size
    return numbers["MemAvailable"] * 1024, numbers["MemTotal"] * 1024


def _numbers(text: str) -> dict[str, int]:
    words = (line.split() for line in text.splitlines())
    return {line[0]: int(line[1]) for line in words if len(line) > 1}


# ---- journal ---------------------------------------------------------------------------------------------


async def journal() -> Finding:
    """Of the gateway in this process; a process without one has nothing to write."""
    shipper = shipping.running()
    if shipper is None:
        return HEALTHY
    lag = shipper.lag()
    detail = f"{lag.records} records, {lag.seconds:.1f} s behind"
    if not shipper.journal.accepting:
        return Finding(State.UNHEALTHY, f"no record can be written; {detail}")
    return Finding(State.DEGRADED if lag.seconds > LATE else State.HEALTHY, detail)


# ---- changes ---------------------------------------------------------------------------------------------


async def changes() -> Finding:
    """How old the knowledge of the gateway in this process is.

    Unhealthy from the moment it takes no credential any more (`directory.TRUST_SECONDS`): from then on another
    process can only do better, and before that none has to.
    """
    running = directory.running()
    if running is None:
        return HEALTHY
    age = running.blind_for
    detail = f"read {age:.1f} s ago"
    if running.is_blind:
        return Finding(State.UNHEALTHY, f"{detail}; no credential is taken")
    return Finding(State.DEGRADED if age > STALE else State.HEALTHY, detail)


# ---- runner ----------------------------------------------------------------------------------------------

RUNNER_SECONDS = 1.5


async def runner() -> Finding:
    """Of uploaded code, which alone suffers without one. Where there is no code, there need be no runner."""
    client = RunnerClient(settings.RUNNER_DIR)
    try:
        async with asyncio.timeout(RUNNER_SECONDS):
            found = await client.probe()
    except (Refused, TimeoutError):
        gateway = directory.running()
        if gateway is not None and gateway.uses_code:
            return Finding(State.DEGRADED, "it does not answer: servers that are code cannot be called")
        return Finding(State.HEALTHY, "none answers; no code is called here")
    finally:
        await client.close()
    if found.is_safe:
        return Finding(State.HEALTHY, "servers run in sandboxes")
    why = " ".join(found.missing)
    if found.allows_unsafe:
        return Finding(State.DEGRADED, f"UNSAFE: code is run although this machine cannot hold it. {why}")
    return Finding(State.DEGRADED, f"no code is run. {why}")


checks = Checks(
    [
        Check("database", 2.0, database),
        Check("bus", 2.0, bus),
        Check("disk", 0.5, disk),
        Check("memory", 0.5, memory),
        Check("journal", 0.5, journal),
        Check("changes", 0.5, changes),
        Check("runner", 2.0, runner),
    ]
)
