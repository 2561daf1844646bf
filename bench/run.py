"""`make bench`: what a call costs here, beside what the floor and others cost, all from one run.

    python bench/run.py [--rounds 5] [--seconds 3] [--write]

CPU time per call of the server's process tree is the figure to trust on a shared machine, as a ratio to the floor
in the same run. Rounds of all targets are interleaved and medians are shown. `--write` adds the table to
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import loader
from loader import Load, load
from processes import CORES, cpu_seconds, resident_mb, watched_sockets
from targets import ROOT, Target, check, running

BUSY, ALONE = 50, 1
WARM_UP_SECONDS = 2.0
PAGE = ROOT / "docs" / "benchmarks.md"
HEADER = (
    "| target | CPU µs/call | ratio | req/s | p50 / p95 / p99 ms | alone p50 / p99 ms | MB | sockets | errors |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


@dataclass(slots=True)
class Measured:
    """Rounds of one target: `busy` with 50 clients, `alone` with one; memory before and after, in MB."""

    target: Target
    memory: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    busy: list[Load] = field(default_factory=list)
    alone: list[Load] = field(default_factory=list)
    connections: int = 0

    def median(self, loads: Sequence[Load], of: Callable[[Load], float]) -> float:
        return statistics.median(of(one) for one in loads)

    @property
    def cpu_per_call(self) -> float:
        """In microseconds."""
        return statistics.median(self.cpu)

    @property
    def errors(self) -> int:
        return sum(one.errors for one in (*self.busy, *self.alone))


def measure(measured: Measured, seconds: float) -> None:
    target = measured.target
    before = cpu_seconds(target.pid)
    with watched_sockets(target.pid) as counts:
        busy = load(target.request, connections=BUSY, seconds=seconds)
    spent = cpu_seconds(target.pid) - before
    measured.busy.append(busy)
    measured.cpu.append(spent / max(busy.calls, 1) * 1e6)
    measured.connections = max(measured.connections, *counts)
    measured.alone.append(load(target.request, connections=ALONE, seconds=seconds / 2))
    measured.memory.append(resident_mb(target.pid))


def measure_all(targets: Sequence[Target], rounds: int, seconds: float) -> list[Measured]:
    results = [Measured(target, [resident_mb(target.pid)]) for target in targets]
    for target in targets:
        check(target)
        load(target.request, connections=BUSY, seconds=WARM_UP_SECONDS)
    for number in range(1, rounds + 1):
        for measured in results:
            say(f"round {number} of {rounds}: {measured.target.name}")
            measure(measured, seconds)
    for target in targets:
        check(target)
    return results


def row(measured: Measured, all_of_them: Sequence[Measured]) -> str:
    floor = next(one for one in all_of_them if one.target.name == measured.target.baseline)
    busy, alone = measured.busy, measured.alone
    if not any(one.calls for one in busy):
        return f"| {measured.target.name} | no call of {BUSY} clients was answered in a round | | | | | | | |"
    cells = [
        measured.target.name,
        f"{measured.cpu_per_call:.0f}",
        "1"
        if floor is measured
        else f"**{measured.cpu_per_call / floor.cpu_per_call:.2f}** x {floor.target.name}",
        f"{measured.median(busy, lambda one: one.calls / one.seconds):,.0f}",
        " / ".join(
            f"{measured.median(busy, lambda one, p=p: getattr(one, p)):.2f}" for p in ("p50", "p95", "p99")
        ),
        " / ".join(f"{measured.median(alone, lambda one, p=p: getattr(one, p)):.2f}" for p in ("p50", "p99")),
        f"{measured.memory[0]:.0f} → {measured.memory[-1]:.0f}",
        str(measured.connections),
        str(measured.errors),
    ]
    return f"| {' | '.join(cells)} |"


def table(results: Sequence[Measured]) -> str:
    return "\n".join([HEADER, *(row(one, results) for one in results)])


def conditions(rounds: int, seconds: float) -> str:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    where = f"Python {platform.python_version()}, {processor()}, {len(CORES)} cores, load {os.getloadavg()[0]:.1f}"
    how = f"{loader.name()}, {rounds} rounds of {seconds:g} s with {BUSY} clients and half as long with one; medians"
    return f"{now}, commit {commit or 'unknown'}. {where}. {how}."


def processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


def append(text: str, title: str) -> None:
    if not PAGE.exists():
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(INTRODUCTION)
    with PAGE.open("a") as page:
        page.write(f"\n## {title}\n\n{text}\n")


INTRODUCTION = """# Benchmarks

Made by `make bench` (`bench/run.py --write`), newest last. Everything runs on one machine over loopback: the measured
server alone on the first core, the loader and the origin on the last. "CPU µs/call" is what the server's processes
spent on a processor by the scheduler's account, divided by the calls; it and its ratio to the floor of the same run
are to be trusted more than calls per second, which contain the neighbours. Mooring runs with everything on: key,
roles, quota, schemas of input and output, journal, metrics. "sockets" counts the server's open sockets at the peak.

The budgets: a static tool at most 3.0 x bare ASGI, an http tool at most 1.6 x a bare aiohttp relay, a remote tool at
most 1.8 x a bare aiohttp relay to the same MCP server. That server is the official SDK's; it is on the last core with
the loader and bounds the calls per second, while CPU time per call is that of what stands in front of it.
"""


def say(sentence: str) -> None:
    sys.stderr.write(f"\r\033[K{sentence}")
    sys.stderr.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a call costs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a round")
    parser.add_argument("--write", action="store_true", help="add the table to docs/benchmarks.md")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mooring-bench-") as folder, running(Path(folder)) as targets:
        results = measure_all(targets, options.rounds, options.seconds)
    say("")
    text = f"{conditions(options.rounds, options.seconds)}\n\n{table(results)}"
    print(text)
    print(f"\n{time.monotonic() - began:.0f} s in all.")
    if options.write:
        append(text, datetime.now(UTC).strftime("%Y-%m-%d"))


if __name__ == "__main__":
    main()
