"""What this machine can enforce, found out by trying to break out of a sandbox made here.

The answer names what is missing in words. Strangers' code is refused where anything is.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from servers.runner.engine import MIB, Capabilities, Limits
from servers.runner.sandbox import process, seccomp
from servers.runner.sandbox.cgroups import Limiter, Usage
from servers.runner.sandbox.launcher import Plan, Tree, Unprepared, runtime_trees
from servers.runner.sandbox.process import Sandbox

SECONDS = 15.0
BOMB_BYTES = 64 * MIB
FEW = 16
_numbers = itertools.count(1)

# Runs inside. Says what it sees of itself, and which of the doors that must be shut it could open.
_LOOK_AROUND = """
import json, os, socket, ctypes, sys
sys.stdin.read()  # until we have been looked at from outside
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
libc = ctypes.CDLL(None, use_errno=True)
def opens(family):
    try:
        socket.socket(family, socket.SOCK_STREAM if family == 40 else socket.SOCK_RAW).close()
    except OSError:
        return False
    return True
print(json.dumps({
    "filtered": status["Seccomp"] == "2" and status["NoNewPrivs"] == "1",
    "vsock": opens(40), "netlink": opens(16),
    "nested": libc.unshare(0x10000000) == 0,
    "powers": status["CapEff"].strip("0") != "",
    "processes": sum(name.isdigit() for name in os.listdir("/proc")),
}))
"""
# More than the limit, in a file in memory, which bounds on address space do not see.
_MEMORY_BOMB = """
import os
bomb = os.memfd_create("bomb")
for _ in range({pieces}):
    os.write(bomb, b"x" * 1048576)
print("survived")
"""
# More processes than it may have.
_FORK_BOMB = """
import os, time
for number in range({most}):
    try:
        if os.fork() == 0:
            time.sleep(60)
    except OSError:
        print("stopped", flush=True)
        os._exit(0)
"""


class Seen(msgspec.Struct):
    """What the program inside has found."""

    filtered: bool
    vsock: bool
    netlink: bool
    nested: bool
    powers: bool
    processes: int


@dataclass(frozen=True, slots=True)
class Ran:
    output: bytes
    errors: str
    reason: str
    user: int
    usage: Usage


async def probe(limiter: Limiter, *, runtime: str, user: int | None, allows_unsafe: bool) -> Capabilities:
    """Try everything once. Takes a fraction of a second and never raises."""
    missing: list[str] = []
    seen, own_user = await _look_around(limiter, runtime, user, missing)
    has_groups = seen is not None and _has_groups(limiter, missing)
    memory = has_groups and await _holds_memory(limiter, runtime, user, missing)
    processes = has_groups and await _holds_processes(limiter, runtime, user, missing)
    return Capabilities(
        engine="local",
        namespaces=seen is not None and not seen.nested and not seen.powers and seen.processes <= 3,
        system_calls=seen is not None and seen.filtered and not seen.vsock and not seen.netlink,
        memory=memory,
        processes=processes,
        own_user=own_user,
        missing=(*missing, *(_sentences(seen) if seen else ())),
        allows_unsafe=allows_unsafe,
    )


async def _look_around(
    limiter: Limiter, runtime: str, user: int | None, missing: list[str]
) -> tuple[Seen | None, bool]:
    """What was seen inside, if anything, and whether it was somebody else than us who looked."""
    try:
        ran = await _run(limiter, runtime, user, _LOOK_AROUND, Limits())
        if ran.user in {0, os.getuid()}:
            missing.append(
                "Code would run as the user of the runner: start it as root, so that every server gets its own."
            )
        return msgspec.json.decode(ran.output, type=Seen), ran.user not in {0, os.getuid()}
    except (Unprepared, seccomp.Unsupported) as error:
        missing.append(str(error))
    except TimeoutError:
        missing.append(f"A sandbox did not start within {SECONDS:.0f} s.")
    except msgspec.DecodeError:
        missing.append(f"A sandbox could not be made: {ran.errors.strip()[-300:] or ran.reason}")
    return None, False


def _has_groups(limiter: Limiter, missing: list[str]) -> bool:
    if not limiter.version:
        missing.append(
            "Memory cannot be bounded: there are no control groups that we may write. Run as root, or as a systemd "
            "service with Delegate=yes."
        )
    return bool(limiter.version)


async def _holds_memory(limiter: Limiter, runtime: str, user: int | None, missing: list[str]) -> bool:
    program = _MEMORY_BOMB.format(pieces=4 * BOMB_BYTES // MIB)
    try:
        ran = await _run(limiter, runtime, user, program, Limits(memory=BOMB_BYTES))
    except (Unprepared, TimeoutError) as error:
        missing.append(f"The bound on memory could not be tried: {error}")
        return False
    if b"survived" in ran.output or "memory" not in ran.reason:
        missing.append(f"A program that took four times its memory was not stopped: {ran.reason}.")
        return False
    return True


async def _holds_processes(limiter: Limiter, runtime: str, user: int | None, missing: list[str]) -> bool:
    program = _FORK_BOMB.format(most=2 * FEW)
    try:
        ran = await _run(limiter, runtime, user, program, Limits(pids=FEW))
    except (Unprepared, TimeoutError) as error:
        missing.append(f"The bound on processes could not be tried: {error}")
        return False
    # Beside the group there is a limit of the user's, which must not be what has held.
    if b"stopped" not in ran.output or not ran.usage.forks_refused:
        missing.append(f"A program that started {2 * FEW} processes was not stopped by its control group.")
        return False
    return True


def _sentences(seen: Seen) -> list[str]:
    wrong = {
        "System calls are not filtered.": not seen.filtered,
        "Code can open sockets to the hypervisor (vsock).": seen.vsock,
        "Code can talk to the kernel by netlink sockets.": seen.netlink,
        "Code can make namespaces of its own.": seen.nested,
        "Code holds capabilities.": seen.powers,
        "Code sees processes that are not its own.": seen.processes > 3,
    }
    return [sentence for sentence, is_wrong in wrong.items() if is_wrong]


async def _run(limiter: Limiter, runtime: str, user: int | None, program: str, limits: Limits) -> Ran:
    """Raises TimeoutError, `Unprepared` and `seccomp.Unsupported`."""
    if not os.access(runtime, os.X_OK):
        raise Unprepared("There is no Python for servers: apt install python3.")
    trees: list[Tree] = runtime_trees(Path(runtime).resolve())
    plan = Plan((runtime, "-I", "-S", "-c", program), limits, trees)
    sandbox = await process.start(plan, name=f"probe-{next(_numbers)}", limiter=limiter, user=user)
    return await _finished(sandbox)


async def _finished(sandbox: Sandbox) -> Ran:
    try:
        user = _user_of(sandbox.process.pid)
        async with asyncio.timeout(SECONDS):
            output, errors = await sandbox.process.communicate(b"")
        code = sandbox.process.returncode
        reason = sandbox.explain(code if code is not None else 0)
        usage = sandbox.limiter.usage(sandbox.name)
        return Ran(output, errors.decode("utf-8", "replace"), reason, user, usage)
    finally:
        await sandbox.remove()


def _user_of(process: int) -> int:
    """As whom it runs on this machine; root when that cannot be told."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[1])
    return 0
