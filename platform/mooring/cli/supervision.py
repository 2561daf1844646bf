"""Processes that belong together: started, watched, begun again when they die, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

LIFELINE = "MOORING_LIFELINE"
# How long a process may take to stop after its parent has died.
ORPHAN_SECONDS = 3.0
LOOK_EVERY = 0.2
LONGEST_PAUSE = 30.0
# A process that lived this long was well; its next death begins with the shortest pause again.
WELL_AFTER = 60.0
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def hang_on_lifeline() -> None:
    """In a child: end with the parent, however it ends. The kernel closes its end of the pipe for it."""
    descriptor = os.environ.pop(LIFELINE, "")
    if descriptor:
        threading.Thread(target=_hang, args=(int(descriptor),), name="lifeline", daemon=True).start()


def _hang(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)  # this thread has nothing else to do, and the end of the process ends it
    # The child leads a group of its own, so this takes the worker's pool along.
    os.killpg(os.getpgrp(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Lowered:
    """Another user for a process, who is also its group's only one; `home` is a folder that is open to it."""

    user: int
    home: Path


class Child:
    """One process with a name for people; `lowered` is who it becomes, None: it stays who we are."""

    def __init__(self, name: str, command: Sequence[str], lowered: Lowered | None = None) -> None:
        self.name = name
        self.command = command
        self._lowered = lowered
        self.process: subprocess.Popen[bytes] | None = None
        self.start_at = 0.0
        self._started_at = 0.0
        self._pause = 1.0

    def start(self, lifeline: int) -> None:
        self._started_at = time.monotonic()
        # A session of its own: Ctrl-C reaches us alone, and we say who stops when.
        self.process = subprocess.Popen(
            self.command,
            env=os.environ | {LIFELINE: str(lifeline)} | self._home(),
            pass_fds=[lifeline],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            **self._identity(),
        )

    def _identity(self) -> dict[str, Any]:
        if self._lowered is None:
            return {}
        return {"user": self._lowered.user, "group": self._lowered.user, "extra_groups": []}

    def _home(self) -> dict[str, str]:
        """Ours may be shut, at which some libraries stumble."""
        return {} if self._lowered is None else {"HOME": str(self._lowered.home)}

    def has_died(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def bury(self) -> str:
        """Note the death, set the time of the next start; returns the sentence for people."""
        assert self.process is not None
        self.kill()  # what it has started must not go on beside its successor
        code, self.process = self.process.returncode, None
        lived = time.monotonic() - self._started_at
        self._pause = 1.0 if lived > WELL_AFTER else min(self._pause * 2, LONGEST_PAUSE)
        self.start_at = time.monotonic() + self._pause
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"The {self.name} {how}. It starts again in {self._pause:.0f} s."

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """The process and everything it has started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Family:
    """Children of this process. `say` prints a sentence for people."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._children: list[Child] = []
        self._stop = threading.Event()
        self._lifeline, self._our_end = os.pipe()
        self._signals = 0

    def start(self, name: str, *arguments: str, lowered: Lowered | None = None) -> Child:
        """Start `mooring ARGUMENTS` as a process."""
        child = Child(name, [sys.executable, "-m", "mooring.cli.running", *arguments], lowered)
        child.start(self._lifeline)
        self._children.append(child)
        return child

    def listen(self) -> None:
        """From now on Ctrl-C, SIGTERM and a closed terminal ask for the end; asked twice, it is immediate."""
        for number in _STOPPING:
            signal.signal(number, self._on_signal)

    def is_stopping(self) -> bool:
        return self._stop.is_set()

    def wait(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def watch(self) -> None:
        """Until somebody asks for the end: report deaths and start the dead again."""
        while not self._stop.is_set():
            for child in self._children:
                self._tend(child)
            self._stop.wait(LOOK_EVERY)

    def stop(self, grace: float) -> None:
        """Ask all to end, at once; after `grace` seconds end them."""
        for child in self._children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline and self._signals < 2:
            if all(child.process is None or child.has_died() for child in self._children):
                break
            time.sleep(0.05)  # processes are waited for together, and the second Ctrl-C is looked at between
        for child in reversed(self._children):
            child.kill()

    def _tend(self, child: Child) -> None:
        if child.has_died():
            self._say(child.bury())
        elif child.process is None and time.monotonic() >= child.start_at:
            child.start(self._lifeline)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self._stop.set()
