"""The process that outlives a runner by a moment: when the runner is gone, however it ended, it removes what is left.

Sandboxes die with the runner by themselves; their control groups do not, nor does its socket. It holds one end of
a pipe, whose other end the kernel closes when the runner dies.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from servers.runner.sandbox import cgroups


def watch(runner: str, *files: Path) -> subprocess.Popen[bytes]:
    """Start it. Closing its standard input makes it clean up and end."""
    command = [sys.executable, "-m", "servers.runner.sandbox.leftovers", runner, *map(str, files)]
    # A session of its own, so that what is sent to the runner's group does not reach it.
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
    )


def remove(runner: str, *files: Path) -> None:
    limiter = cgroups.find(runner)
    cgroups.sweep(limiter, limiter.names())
    limiter.close()
    for file in files:
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    remove(sys.argv[1], *map(Path, sys.argv[2:]))
