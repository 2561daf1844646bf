"""Bounds on memory, processes and processor time, and the one way to end a whole tree for certain: control groups.

Version 2 where it has the controllers, else version 1 (with version 2 beside it for `cgroup.kill`), else nothing.
Each process that is run for somebody is one group below the runner's own. Its name says where: `<name>`, or
`<tenant>/<name>` (`name_for`) for the servers of a tenant, which have half of the processors together, and no more
weight than those of any other tenant.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CONTROLLERS = ("memory", "pids", "cpu")
# Microseconds. Who has used up its quota rests until the next one begins, and who spins keeps others waiting no longer
# than it lasts; the usual 100 ms make a call of another server wait for fifty.
_PERIOD = 20_000
# A killed process is gone within milliseconds; one stuck in the kernel's own input or output takes longer.
GONE_SECONDS = 5.0
_LOOK_EVERY = 0.01
_LEAF = "-self"


def name_for(tenant: str, name: str) -> str:
    """Of a group among the others of its tenant."""
    return f"t-{hashlib.sha256(tenant.encode()).hexdigest()[:16]}/{name}"


def _tenants_of(name: str) -> str:
    """The group that it is in; empty for one that is no tenant's."""
    return name.rpartition("/")[0]


def tenants_share() -> float:
    """Of the processors, in cores."""
    return max(1.0, (os.cpu_count() or 1) / 2)


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes, count, seconds of processor time, and how often the kernel has killed for want of memory, or refused
    another process.
    """

    memory: int = 0
    pids: int = 0
    cpu: float = 0.0
    oom_kills: int = 0
    forks_refused: int = 0


class Limiter(Protocol):
    """Groups by name. Raises OSError when the kernel refuses."""

    version: int

    def create(self, name: str, *, memory: int, pids: int, cpu: float) -> None:
        """`cpu` in cores."""

    def set_cpu(self, name: str, cpu: float) -> None: ...

    def doors(self, name: str) -> list[str]:
        """Files into which a process writes `0` to be in the group from then on."""

    def usage(self, name: str) -> Usage: ...

    def kill(self, name: str) -> None:
        """End everything in the group, stopped processes too."""

    def destroy(self, name: str) -> bool:
        """Remove the empty group. False while something in it is still dying."""

    def names(self) -> list[str]:
        """Groups that exist now, those of a dead runner included, and those of tenants where nothing is in them."""

    def close(self) -> None:
        """Remove the runner's own group."""


class Version2:
    """One tree for everything. The runner itself moves into a leaf, since inner groups may hold no processes."""

    version = 2

    def __init__(self, root: Path, runner: str) -> None:
        self._own = root
        self._root = root / runner

    def prepare(self) -> None:
        """Hand the controllers down to the groups of instances. Raises OSError where that is not ours to do."""
        self._root.mkdir(exist_ok=True)
        try:
            _enable(self._own)
        except (
            OSError
        ):  # EBUSY: we and our ancestors (a shell, an init) are in it; others would be in the way
            leaf = self._own / (self._root.name + _LEAF)
            leaf.mkdir(exist_ok=True)
            for process in {*_numbers(self._own / "cgroup.procs")} & {*_lineage(os.getpid())}:
                _write(leaf / "cgroup.procs", process)
            _enable(self._own)
        _enable(self._root)

    def create(self, name: str, *, memory: int, pids: int, cpu: float) -> None:
        group = self._root / name
        if tenants := _tenants_of(name):
            (self._root / tenants).mkdir(exist_ok=True)
            _enable(self._root / tenants)
            self._set_quota(self._root / tenants, tenants_share())
        group.mkdir()
        _write(group / "memory.max", memory)
        # One process less is a server that is half there.
        _write(group / "memory.oom.group", 1)
        if (group / "memory.swap.max").exists():
            _write(group / "memory.swap.max", 0)
        _write(group / "pids.max", pids)
        self.set_cpu(name, cpu)

    def set_cpu(self, name: str, cpu: float) -> None:
        self._set_quota(self._root / name, cpu)

    def _set_quota(self, group: Path, cpu: float) -> None:
        _write(group / "cpu.max", f"{int(cpu * _PERIOD)} {_PERIOD}")

    def doors(self, name: str) -> list[str]:
        return [str(self._root / name / "cgroup.procs")]

    def usage(self, name: str) -> Usage:
        group = self._root / name
        return Usage(
            memory=_number(group / "memory.current"),
            pids=_number(group / "pids.current"),
            cpu=_field(group / "cpu.stat", "usage_usec") / 1e6,
            oom_kills=_field(group / "memory.events", "oom_kill"),
            forks_refused=_field(group / "pids.events", "max"),
        )

    def kill(self, name: str) -> None:
        _kill([self._root / name])

    def destroy(self, name: str) -> bool:
        return _removed([self._root], name)

    def names(self) -> list[str]:
        return _children([self._root])

    def close(self) -> None:
        _removed([self._root], "")


class Version1:
    """A tree for each controller, and version 2's beside them if it is there, for its `cgroup.kill`."""

    version = 1

    def __init__(self, mounts: dict[str, Path], unified: Path | None, runner: str) -> None:
        self._roots = {controller: mount / runner for controller, mount in mounts.items()}
        self._unified = unified / runner if unified else None
        self._all = [*dict.fromkeys(self._roots.values()), *([self._unified] if self._unified else [])]

    def prepare(self) -> None:
        for root in self._all:
            root.mkdir(exist_ok=True)

    def create(self, name: str, *, memory: int, pids: int, cpu: float) -> None:
        tenants = _tenants_of(name)
        for root in self._all:
            (root / tenants).mkdir(exist_ok=True)
            (root / name).mkdir()
        if tenants:
            self._set_quota(self._roots["cpu"] / tenants, tenants_share())
        group = self._roots["memory"] / name
        _write(group / "memory.limit_in_bytes", memory)
        # Memory and swap together: no more than memory alone, so no swap.
        if (group / "memory.memsw.limit_in_bytes").exists():
            _write(group / "memory.memsw.limit_in_bytes", memory)
        _write(self._roots["pids"] / name / "pids.max", pids)
        self.set_cpu(name, cpu)

    def set_cpu(self, name: str, cpu: float) -> None:
        # This version refuses a group more than the one around it has.
        most = tenants_share() if _tenants_of(name) else cpu
        self._set_quota(self._roots["cpu"] / name, min(cpu, most))

    def _set_quota(self, group: Path, cpu: float) -> None:
        _write(group / "cpu.cfs_period_us", _PERIOD)
        _write(group / "cpu.cfs_quota_us", int(cpu * _PERIOD))

    def doors(self, name: str) -> list[str]:
        return [str(root / name / "cgroup.procs") for root in self._all]

    def usage(self, name: str) -> Usage:
        group = self._roots["memory"] / name
        accounting = self._roots.get("cpuacct")
        return Usage(
            memory=_number(group / "memory.usage_in_bytes"),
            pids=_number(self._roots["pids"] / name / "pids.current"),
            cpu=_number(accounting / name / "cpuacct.usage") / 1e9 if accounting else 0.0,
            oom_kills=_field(group / "memory.oom_control", "oom_kill"),
            forks_refused=_field(self._roots["pids"] / name / "pids.events", "max"),
        )

    def kill(self, name: str) -> None:
        if self._unified:
            _kill([self._unified / name])
        _kill([root / name for root in self._roots.values()])

    def destroy(self, name: str) -> bool:
        return _removed(self._all, name)

    def names(self) -> list[str]:
        return _children(self._all)

    def close(self) -> None:
        _removed(self._all, "")


class Unlimited:
    """No groups here: processes are found by nobody but their parent."""

    version = 0

    def create(self, name: str, *, memory: int, pids: int, cpu: float) -> None: ...

    def set_cpu(self, name: str, cpu: float) -> None: ...

    def doors(self, name: str) -> list[str]:
        return []

    def usage(self, name: str) -> Usage:
        return Usage()

    def kill(self, name: str) -> None: ...

    def destroy(self, name: str) -> bool:
        return True

    def names(self) -> list[str]:
        return []

    def close(self) -> None: ...


def find(runner: str) -> Limiter:
    """The best this machine has, ready for groups below one called `runner`."""
    mounts, unified = _mounts(Path("/proc/self/mounts").read_text())
    candidates: list[Version1 | Version2] = []
    if unified and set(CONTROLLERS) <= set((unified / "cgroup.controllers").read_text().split()):
        candidates.append(Version2(unified / _own_group(runner), runner))
    elif set(CONTROLLERS) <= set(mounts):
        candidates.append(Version1(mounts, unified, runner))
    for candidate in candidates:
        with contextlib.suppress(OSError):
            candidate.prepare()
            return candidate
    return Unlimited()


def sweep(limiter: Limiter, names: Iterable[str]) -> None:
    """Kill and remove groups, at the start of a runner and after its death. Waits `GONE_SECONDS` at most."""
    left = list(names)
    deadline = time.monotonic() + GONE_SECONDS
    while left and time.monotonic() < deadline:
        for name in left:
            limiter.kill(name)
        left = [name for name in left if not limiter.destroy(name)]
        if left:
            # Called outside any event loop, and the kernel does not tell when a group has emptied.
            time.sleep(_LOOK_EVERY)


def _mounts(table: str) -> tuple[dict[str, Path], Path | None]:
    """Where each controller of version 1, and version 2, are mounted."""
    found: dict[str, Path] = {}
    unified = None
    for line in table.splitlines():
        _, target, kind, options, *_ = line.split()
        if kind == "cgroup2":
            unified = Path(target)
        elif kind == "cgroup":
            found |= {
                option: Path(target) for option in options.split(",") if option in {*CONTROLLERS, "cpuacct"}
            }
    return found, unified


def _own_group(runner: str) -> str:
    """Where this process was started, whether or not it has moved into its leaf since."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return line[3:].strip("/").removesuffix(runner + _LEAF).rstrip("/")
    return ""


def _lineage(process: int) -> Iterator[int]:
    while process > 0:
        yield process
        # The second field, a name in brackets, may hold anything.
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def _enable(group: Path) -> None:
    _write(group / "cgroup.subtree_control", " ".join(f"+{name}" for name in CONTROLLERS))


def _kill(groups: list[Path]) -> None:
    """With one write where the kernel can; else each process until none is left, which a fork bomb may outrun."""
    for group in groups:
        try:
            _write(group / "cgroup.kill", 1)
        except OSError:
            for process in _numbers(group / "cgroup.procs"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def _removed(roots: list[Path], name: str) -> bool:
    """Whether the group is gone everywhere; that of its tenant goes with the last in it."""
    left = False
    for root in roots:
        try:
            (root / name).rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            left = True
    if tenants := _tenants_of(name):
        _removed(roots, tenants)
    return not left


def _children(roots: list[Path]) -> list[str]:
    found = {path.relative_to(root).as_posix() for root in roots for path in _below(root)}
    return sorted(found - {_tenants_of(name) for name in found})


def _below(root: Path) -> Iterator[Path]:
    for path in root.iterdir() if root.is_dir() else ():
        if path.is_dir():
            yield path
            yield from _below(path)


def _write(file: Path, value: object) -> None:
    # Never made anew: on a file system of another kind that would look like success.
    with open(os.open(file, os.O_WRONLY), "w") as opened:
        opened.write(str(value))


def _numbers(file: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(line) for line in file.read_text().split()]
    return []


def _number(file: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text())
    return 0


def _field(file: Path, name: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
