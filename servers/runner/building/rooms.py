"""Sandboxes that run one program to its end and give back what it writes.

Nothing in them can be written to but memory, so nothing they do is left when they end, whatever they try: what is
wanted from them comes through a pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from servers.runner.engine import GIB, MIB, Limits
from servers.runner.errors import BuildFailed, Unbuildable
from servers.runner.sandbox import launcher, process, seccomp
from servers.runner.sandbox.cgroups import Limiter
from servers.runner.sandbox.launcher import Plan, Tree
from servers.runner.sandbox.process import Sandbox
from servers.runner.sandbox.users import Users

# 8.2 of the limits: a build may take this much memory, its files in memory included, and this long.
MEMORY, SECONDS = GIB, 120.0
_ROOM = 640 * MIB
LIMITS = Limits(
    memory=MEMORY, cpu_starting=2.0, cpu=2.0, pids=128, tmp=_ROOM, shm=16 * MIB, files=1024, file_size=_ROOM
)
_CHUNK = 256 * 1024
_LONGEST_LINE = 64 * 1024
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Ended:
    """`output` is a file at its beginning; `why` says how the program ended, unless it ended well."""

    code: int
    output: IO[bytes]
    why: str


@dataclass(slots=True)
class Rooms:
    """Makes sandboxes for builds; as root, each with a user of its own. At most `at_once` at the same time."""

    limiter: Limiter
    users: Users
    at_once: int = 2
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.at_once)

    @contextlib.asynccontextmanager
    async def user(self) -> AsyncIterator[int | None]:
        """Who a sandbox becomes on this machine, for as long as it is needed."""
        if os.geteuid() != 0:
            yield None
            return
        name = f"-build-{next(_numbers)}"
        try:
            user = self.users.take(name)
        except LookupError as error:
            raise BuildFailed(str(error)) from None
        try:
            yield user
        finally:
            self.users.release(name)

    @contextlib.asynccontextmanager
    async def run(
        self,
        command: Sequence[str],
        *,
        user: int | None,
        trees: Sequence[Tree],
        environment: Mapping[str, str] | None = None,
        feed: IO[bytes] | bytes = b"",
        heard: Callable[[str], None] = lambda _: None,
        most: int = 64 * MIB,
        seconds: float = SECONDS,
    ) -> AsyncIterator[Ended]:
        """Run it to its end. `heard` gets the lines it writes to its log, `most` bounds its output in bytes.

        Raises `Unbuildable` when it takes too long, too much memory or writes too much, `BuildFailed` when it
        cannot be started.
        """
        plan = Plan(command=command, limits=LIMITS, trees=trees, environment=environment or {}, folder="/tmp")
        async with self._slots:
            sandbox = await self._started(plan, user)
            with tempfile.TemporaryFile() as output:
                try:
                    async with asyncio.timeout(seconds):
                        code = await _finished(sandbox, feed, output, heard, most)
                    why = "" if code == 0 else sandbox.explain(code)
                except TimeoutError:
                    raise Unbuildable(f"The build has not ended within {seconds:g} s.") from None
                finally:
                    await sandbox.remove()
                output.seek(0)
                yield Ended(code, output, why)

    async def _started(self, plan: Plan, user: int | None) -> Sandbox:
        try:
            name = f"build-{os.getpid()}-{next(_numbers)}"
            return await process.start(plan, name=name, limiter=self.limiter, user=user)
        except (launcher.Unprepared, seccomp.Unsupported) as error:
            raise BuildFailed(str(error)) from None


async def _finished(
    sandbox: Sandbox, feed: IO[bytes] | bytes, output: IO[bytes], heard: Callable[[str], None], most: int
) -> int:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_write(sandbox, feed))
        tasks.create_task(_log(sandbox, heard))
        taken = tasks.create_task(_take(sandbox, output, most))
        ended = tasks.create_task(sandbox.process.wait())
    if not taken.result():
        raise Unbuildable(f"The build has made more than {most // MIB} MiB.")
    return ended.result()


async def _write(sandbox: Sandbox, feed: IO[bytes] | bytes) -> None:
    stdin = sandbox.process.stdin
    assert stdin is not None
    with contextlib.suppress(
        ConnectionError
    ):  # it ended before it had read everything, and says why elsewhere
        for piece in [feed] if isinstance(feed, bytes) else iter(lambda: feed.read(_CHUNK), b""):
            stdin.write(piece)
            await stdin.drain()
    stdin.close()


async def _take(sandbox: Sandbox, output: IO[bytes], most: int) -> bool:
    """False when there was more; the sandbox is gone then."""
    stdout = sandbox.process.stdout
    assert stdout is not None
    taken = 0
    while piece := await stdout.read(_CHUNK):
        taken += len(piece)
        if taken > most:
            sandbox.kill()
            return False
        output.write(piece)
    return True


async def _log(sandbox: Sandbox, heard: Callable[[str], None]) -> None:
    stderr = sandbox.process.stderr
    assert stderr is not None
    unended = b""
    while piece := await stderr.read(_CHUNK):
        *lines, rest = (unended + piece.replace(b"\r", b"\n")).split(b"\n")
        for line in lines:
            if line.strip():
                heard(line.decode("utf-8", "replace").rstrip())
        unended = rest[:_LONGEST_LINE]
        await asyncio.sleep(0)
    if unended.strip():
        heard(unended.decode("utf-8", "replace").rstrip())
