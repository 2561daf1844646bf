"""Ships a gateway's journal from a process beside it, so that calls share the interpreter with nobody.

The process is forked before anything runs: it shares the memory of what was imported, and costs no start. It reads
the file that is being written, whose path comes through a pipe, as far as whole records go. When the pipe ends,
the gateway is gone or wants to go: what is left is shipped once, and the process ends. Should it die itself, a thread
of the gateway takes over, from the beginning of the file, since rows are idempotent.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import struct
import sys
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

import structlog
from django.db import connections

from servers.pipeline.journal import Journal, Segment, adopt, watched
from servers.pipeline.shipping import (
    ADOPT_EVERY,
    BATCH,
    SHIP_EVERY,
    CallRows,
    Lag,
    Rounds,
    Shipper,
    Shipping,
    is_running,
)

# How long the last round may take once the gateway has let go.
LAST_ROUND_SECONDS = 5.0
_PIPE_BYTES = 4_096
_log = structlog.get_logger(__name__)


class Progress:
    """How far the records are in the database, in memory that both processes see, and when all of them were."""

    _shape = struct.Struct("<Qd")

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, self._shape.size)
        self.write(0, time.monotonic())

    def write(self, shipped: int, caught_up_at: float) -> None:
        self._shape.pack_into(self._shared, 0, shipped, caught_up_at)

    def read(self) -> tuple[int, float]:
        shipped, caught_up_at = self._shape.unpack_from(self._shared)
        return shipped, caught_up_at


class Follower:
    """The process, seen from the gateway."""

    journal: Journal

    def __init__(self, process: int, pipe: int, progress: Progress) -> None:
        self._process = process
        self._pipe = pipe
        self._progress = progress
        self._instead: Shipper | None = None

    def follow(self, journal: Journal) -> None:
        self.journal = journal
        journal.on_rotation = self._announce
        self._announce()
        is_running(self)

    def _announce(self) -> None:
        """The last segment is ours; those before belong to whoever takes them, which is the process beside us."""
        if self._instead is not None:
            return
        segments = self.journal.segments
        self._tell(b"%d %b\n" % (self.journal.appended, os.fsencode(segments[-1].path)))
        while len(segments) > 1:
            segments.popleft().release()

    def ship_soon(self) -> None:
        if self._instead is None:
            self._tell(b"\n")
        else:
            self._instead.ship_soon()

    def _tell(self, line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._pipe, line)

    def lag(self) -> Lag:
        if self._instead is not None:
            return self._instead.lag()
        shipped, caught_up_at = self._progress.read()
        records = max(0, self.journal.appended - shipped)
        return Lag(records, time.monotonic() - caught_up_at if records else 0.0)

    def look(self) -> None:
        """Take its place if it has died."""
        if self._instead is None and self._has_ended():
            _log.error("call_log.process_died")
            self._instead = Shipper(self.journal)
            self._instead.start()

    def _has_ended(self) -> bool:
        try:
            return bool(os.waitpid(self._process, os.WNOHANG)[0])
        except ChildProcessError:  # whoever has started us wants no news of children, or has taken it
            return True

    def stop(self) -> None:
        is_running(None)
        if self._instead is not None:
            os.close(self._pipe)
            self._instead.stop()
            return
        self.journal.close()  # so that its last file can be taken
        os.close(self._pipe)
        end = time.monotonic() + LAST_ROUND_SECONDS
        while not self._has_ended():
            if time.monotonic() > end:
                os.kill(self._process, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self._process, 0)
                return
            time.sleep(0.01)


_waiting: list[Follower] = []


def shipping_of(journal: Journal) -> Shipping:
    """Whoever ships this journal from now on: the process that `prepare` has forked, else a thread."""
    if not _waiting:
        shipper = Shipper(journal)
        shipper.start()
        return shipper
    follower = _waiting.pop()
    follower.follow(journal)
    return follower


def prepare(directory: Path) -> None:
    """Fork the process; before threads, loops and database connections. Does nothing where that cannot be done."""
    if sys.platform != "linux":
        return  # elsewhere a process that was forked may not use what its parent has loaded
    connections.close_all()
    reading, writing = os.pipe()
    progress = Progress()
    process = os.fork()
    if process:
        os.close(reading)
        os.set_blocking(writing, False)
        _waiting.append(Follower(process, writing, progress))
        return
    try:
        _be_alone(reading)
        _Following(directory, reading, progress).work()
    finally:
        os._exit(0)


def _be_alone(pipe: int) -> None:
    """Hold nothing of our parent's: neither its port nor its locks."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))


class _File(NamedTuple):
    """One of the journal's, and how many records were in those before it."""

    before: int
    path: Path

    @classmethod
    def of(cls, line: bytes) -> _File:
        before, _, path = line.partition(b" ")
        return cls(int(before), Path(os.fsdecode(path)))


class _Following:
    """The work of the process."""

    def __init__(self, directory: Path, pipe: int, progress: Progress) -> None:
        self._pipe = pipe
        self._progress = progress
        self._rounds = Rounds(directory, self._ship_own, every=SHIP_EVERY, adopt_every=ADOPT_EVERY)
        self._files: deque[_File] = deque()
        self._unread = b""
        self._offset = 0
        self._shipped = 0
        self._caught_up_at = time.monotonic()

    def work(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._listen(self._rounds.pause)
            if is_last:
                # Nobody is left who could end us, should the database never answer. What is not shipped is adopted.
                signal.alarm(2 * round(LAST_ROUND_SECONDS))
            self._rounds.run(is_last=is_last)
        connections.close_all()

    def _listen(self, seconds: float) -> bool:
        """Wait for the next round, or until something is said. True when the gateway has let go."""
        if not select.select([self._pipe], [], [], seconds)[0]:
            return False
        said = os.read(self._pipe, _PIPE_BYTES)
        *lines, self._unread = (self._unread + said).split(b"\n")
        self._files.extend(_File.of(line) for line in lines if line)
        return not said

    def _ship_own(self, rows: CallRows) -> None:
        """The files that are full, then what there is of the one being written."""
        while self._files and self._ship(self._files[0].path, rows):
            self._files.popleft()
            self._offset = 0
            if self._files:  # somebody else may have shipped some of the last one, or all
                self._shipped = self._files[0].before

    def _ship(self, path: Path, rows: CallRows) -> bool:
        """True when it is done with: its owner has let go of it, and all of it is shipped."""
        segment = adopt(path)
        is_done = segment is not None
        if segment is None:
            segment = watched(path)
        if segment is None:
            return True  # somebody else has shipped it
        try:
            self._ship_whole(segment, rows)
        except BaseException:
            segment.release()
            raise
        if is_done:
            segment.discard()
        else:
            segment.release()
        return is_done

    def _ship_whole(self, segment: Segment, rows: CallRows) -> None:
        """Up to the last whole record; there may be half of one behind it, or one more already."""
        is_all = False
        while not is_all:
            seen_at = time.monotonic()
            entries, offset = segment.read(self._offset, BATCH)
            rows.insert(entries)
            is_all = offset == self._offset
            self._offset, self._shipped = offset, self._shipped + len(entries)
            if is_all:
                self._caught_up_at = seen_at
            self._progress.write(self._shipped, self._caught_up_at)
