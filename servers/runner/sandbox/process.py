"""One running sandbox: started with its limits, killed as a whole, removed without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from dataclasses import dataclass

from servers.runner.engine import MIB, Limits
from servers.runner.sandbox import launcher
from servers.runner.sandbox.cgroups import GONE_SECONDS, Limiter
from servers.runner.sandbox.launcher import Plan, Unprepared

STREAM_BYTES = 256 * 1024
_LOOK_EVERY = 0.01


@dataclass(slots=True)
class Sandbox:
    """`process` is bubblewrap with pipes for all three streams; `name` is that of its control group."""

    process: asyncio.subprocess.Process
    name: str
    limits: Limits
    limiter: Limiter

    def kill(self) -> None:
        self.limiter.kill(self.name)
        # Where there are no groups, the sandbox dies with the process that has started it.
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def explain(self, code: int) -> str:
        """Why it ended. bubblewrap reports a signal as 128 and its number, as shells do."""
        if self.limiter.usage(self.name).oom_kills:
            return f"it needed more than its {self.limits.memory // MIB} MiB of memory"
        number = -code if code < 0 else code - 128
        if number in signal.valid_signals():
            return f"it was killed by {signal.Signals(number).name}"
        return f"it ended with code {code}"

    async def remove(self) -> None:
        """Kill it and wait until nothing is left of it; may be called again."""
        self.kill()
        await self.process.wait()
        deadline = asyncio.get_running_loop().time() + GONE_SECONDS
        while not self.limiter.destroy(self.name) and asyncio.get_running_loop().time() < deadline:
            self.limiter.kill(self.name)
            await asyncio.sleep(_LOOK_EVERY)


async def start(plan: Plan, *, name: str, limiter: Limiter, user: int | None) -> Sandbox:
    """`user` is who it becomes on this machine, or None to stay who we are.

    To be called in the main thread: the sandbox dies with the thread that has started it. Raises `Unprepared`
    and `seccomp.Unsupported`.
    """
    limits = plan.limits
    with launcher.prepared(plan, user=user, doors=limiter.doors(name)) as command:
        try:
            limiter.create(name, memory=limits.memory, pids=limits.pids, cpu=limits.cpu_starting)
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                limit=STREAM_BYTES,
                env={},
                cwd="/",
                pass_fds=command.descriptors,
                preexec_fn=command.before,
                start_new_session=True,
            )
        except BaseException as error:
            limiter.kill(name)
            limiter.destroy(name)
            if isinstance(error, OSError | subprocess.SubprocessError):
                raise Unprepared(f"The sandbox cannot be started: {error}") from None
            raise
    return Sandbox(process, name, limits, limiter)
