"""What takes without end is ended, and nothing else is: memory in all its forms, processes, space, time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.runner.engine import MIB, Limits, RunSpec
from servers.runner.sandbox import cgroups, launcher, probing, process
from servers.runner.sandbox.cgroups import Limiter, Unlimited
from servers.runner.sandbox.process import Sandbox
from tests.sandboxes import PYTHON, make_artifact

USER = 265_100
SMALL = Limits(memory=48 * MIB, tmp=MIB, pids=32)


@pytest.fixture(scope="module")
def limiter(sandboxes: None) -> Iterator[Limiter]:
    found = cgroups.find(f"mooring-bombs-{os.getpid()}")
    yield found
    cgroups.sweep(found, found.names())
    found.close()


@pytest.fixture(scope="module")
def artifact(workshop: Path) -> Path:
    return make_artifact(workshop / "bombs", "bomb.py")


async def started(
    artifact: Path, limiter: Limiter, kind: str, amount: int, limits: Limits, name: str = ""
) -> Sandbox:
    spec = RunSpec(
        tenant="acme",
        server="bomb",
        digest="0" * 8,
        artifact=str(artifact),
        entry=(PYTHON, "-I", "-S", "/app/bomb.py", kind, str(amount)),
        limits=limits,
    )
    name = name or kind.replace("_", "-")
    return await process.start(launcher.plan_for(spec, PYTHON), name=name, limiter=limiter, user=USER)


async def outcome(
    artifact: Path, limiter: Limiter, kind: str, amount: int, limits: Limits = SMALL
) -> tuple[str, str]:
    """What the bomb said, and why it ended."""
    sandbox = await started(artifact, limiter, kind, amount, limits)
    try:
        async with asyncio.timeout(20):
            output, _ = await sandbox.process.communicate(b"")
        return output.decode(), sandbox.explain(sandbox.process.returncode or 0)
    finally:
        await sandbox.remove()
        assert limiter.names() == []


@pytest.mark.parametrize(
    ("kind", "amount"), [("memory", 200), ("memfd", 200), ("shared", 200), ("inodes", 400_000)]
)
async def test_memory_of_every_kind_counts(artifact: Path, limiter: Limiter, kind: str, amount: int) -> None:
    said, why = await outcome(artifact, limiter, kind, amount)
    assert "survived" not in said
    assert why == "it needed more than its 48 MiB of memory"


async def test_processes_that_are_small_alone_are_too_large_together(
    artifact: Path, limiter: Limiter
) -> None:
    said, why = await outcome(artifact, limiter, "forked_memory", 200)
    assert "survived" not in said
    assert why == "it needed more than its 48 MiB of memory"


@pytest.mark.parametrize("kind", ["forks", "threads"])
async def test_processes_and_threads_have_an_end(artifact: Path, limiter: Limiter, kind: str) -> None:
    said, _ = await outcome(artifact, limiter, kind, 1_000)
    assert "survived" not in said
    assert 10 < int(said.removeprefix("stopped at ")) < SMALL.pids


async def test_processor_time_is_shared_out(artifact: Path, limiter: Limiter) -> None:
    """Four processes that spin get what one server may have, however many processors there are."""
    sandbox = await started(artifact, limiter, "spin", 0, Limits(cpu_starting=0.2))
    try:
        began, used = time.monotonic(), limiter.usage("spin").cpu
        await asyncio.wait([asyncio.create_task(sandbox.process.wait())], timeout=1.5)
        share = (limiter.usage("spin").cpu - used) / (time.monotonic() - began)
        assert 0 < share < 0.3
    finally:
        await sandbox.remove()


async def test_the_servers_of_a_tenant_have_one_share_of_it_together(
    artifact: Path, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "tenants_share", lambda: 0.2)
    names = [cgroups.name_for("acme", f"spin-{number}") for number in range(3)]
    sandboxes = [
        await started(artifact, limiter, "spin", 0, Limits(cpu_starting=1.0), name) for name in names
    ]
    try:
        began, used = time.monotonic(), sum(limiter.usage(name).cpu for name in names)
        await asyncio.wait([asyncio.create_task(sandboxes[0].process.wait())], timeout=1.5)
        share = (sum(limiter.usage(name).cpu for name in names) - used) / (time.monotonic() - began)
        assert 0 < share < 0.3
    finally:
        for sandbox in sandboxes:
            await sandbox.remove()
    assert limiter.names() == []


async def test_a_stopped_sandbox_can_be_killed(artifact: Path, limiter: Limiter) -> None:
    sandbox = await started(artifact, limiter, "spin", 0, Limits(cpu_starting=0.2))
    os.kill(sandbox.process.pid, 19)
    async with asyncio.timeout(5):
        await sandbox.remove()
    assert sandbox.process.returncode == -9


# ---- what the machine can do -----------------------------------------------------------------------------


async def test_this_machine_holds_strangers_code(limiter: Limiter) -> None:
    found = await probing.probe(limiter, runtime=PYTHON, user=USER, allows_unsafe=False)
    assert found.missing == ()
    assert found.is_safe


async def test_a_machine_without_control_groups_or_users_says_so(sandboxes: None) -> None:
    found = await probing.probe(Unlimited(), runtime=PYTHON, user=None, allows_unsafe=False)
    assert (found.namespaces, found.system_calls, found.own_user) == (True, True, False)
    assert (found.memory, found.processes) == (False, False)
    assert not found.is_safe
    assert ["control groups" in found.missing[1], "as root" in found.missing[0]] == [True, True]


async def test_a_machine_whose_control_groups_do_not_count_processes_says_so(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the files are there and the kernel takes no notice; what the user may have beside does not count."""
    write = cgroups._write

    def written(file: Path, value: object) -> None:
        write(file, "max" if file.name == "pids.max" else value)

    monkeypatch.setattr(cgroups, "_write", written)
    found = await probing.probe(limiter, runtime=PYTHON, user=USER, allows_unsafe=False)
    assert (found.memory, found.processes, found.is_safe) == (True, False, False)
    assert found.missing == ("A program that started 32 processes was not stopped by its control group.",)


async def test_a_machine_without_an_interpreter_says_so(limiter: Limiter) -> None:
    found = await probing.probe(limiter, runtime="/nowhere/python3", user=USER, allows_unsafe=False)
    assert not found.is_safe
    assert found.missing == ("There is no Python for servers: apt install python3.",)


def test_version_2_writes_what_the_kernel_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On files of an ordinary folder: this machine's memory controller may be of version 1."""
    names = "memory.max memory.oom.group memory.swap.max pids.max cpu.max cgroup.procs cgroup.kill".split()
    names.append("cgroup.subtree_control")
    groups = cgroups.Version2(tmp_path, "runner")
    (tmp_path / "runner").mkdir()

    class Kernel(type(tmp_path)):  # type: ignore[misc]
        """A folder in which each new group has its files, as the kernel makes them."""

        def mkdir(self, *arguments: object, **named: object) -> None:
            super().mkdir(*arguments, **named)
            for name in names:
                (self / name).write_text("")

    groups._root = Kernel(tmp_path / "runner")
    groups.create("one", memory=64 * MIB, pids=16, cpu=0.5)
    written = {name: (tmp_path / "runner" / "one" / name).read_text() for name in names[:5]}
    assert written == {
        "memory.max": str(64 * MIB),
        "memory.oom.group": "1",
        "memory.swap.max": "0",
        "pids.max": "16",
        "cpu.max": "10000 20000",
    }
    groups.kill("one")
    assert (tmp_path / "runner" / "one" / "cgroup.kill").read_text() == "1"
    assert groups.doors("one") == [str(tmp_path / "runner" / "one" / "cgroup.procs")]
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    groups.create("tenant/two", memory=64 * MIB, pids=16, cpu=0.5)
    tenants = tmp_path / "runner" / "tenant"
    assert (tenants / "cpu.max").read_text() == "60000 20000"
    assert (tenants / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert (tenants / "two" / "cpu.max").read_text() == "10000 20000"
    assert groups.names() == ["one", "tenant/two"]
