"""The record of calls, written before their answers are sent: one file per process start, only appended to.

A record is `[u32 length][u32 crc32][msgpack]`, little endian; after the last one come zeros. The end of the file
is mapped into memory and a record is copied there: no system call, which would also give the interpreter away to
the shipping thread at each call. It survives the death of the process, not the loss of power. The owner holds a
lock on its file for as long as it lives, so that a file whose lock can be had belongs to the dead and may be
shipped by anybody.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from struct import Struct
from uuid import uuid4

import msgspec
import structlog

from mooring.errors import Unavailable

SUFFIX = ".journal"
ROTATE_AT = 64 * 1024 * 1024
# Under this much room new calls are refused, so that those already running can still be recorded.
RESERVE = 64 * 1024 * 1024
# Asking the file system at each call would cost as much as writing the record.
CHECK_EVERY = 0.25
# Longer than any honest record.
LARGEST = 64 * 1024
# How much of a file is taken from the disk and mapped at a time. At half of it the next is made ready, so that a
# full disk is noticed before a call is admitted whose record would not fit.
WINDOW = 1024 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_HEAD = Struct("<II")
# The bits of a UUID that say of what version and variant it is (RFC 9562), and all the others.
_VERSION_7 = 7 << 76 | 2 << 62
_NOT_FIXED = ~(15 << 76 | 3 << 62)
_log = structlog.get_logger(__name__)


class JournalFailed(Unavailable):
    """The record of a call could not be written."""

    code = "journal_failed"


_random = Random()
os.register_at_fork(after_in_child=_random.seed)


def _new_id() -> bytes:
    """`mooring.ids.uuid7().bytes` at a tenth of its price, which a call would notice."""
    value = time.time_ns() // 1_000_000 << 80 | _random.getrandbits(80)
    return (value & _NOT_FIXED | _VERSION_7).to_bytes(16)


def _now() -> int:
    return time.time_ns() // 1_000


class CallEntry(msgspec.Struct, array_like=True, gc=False):
    """The fields of `servers.models.CallRecord`. New ones go last and have defaults: old files are read too.

    `time` is in microseconds since 1970; `tenant_id`, `server_id` and `id` are the 16 bytes of a UUID.
    """

    tenant_id: bytes
    server_id: bytes
    server_slug: str
    request_id: str
    principal_kind: str
    method: str
    status: str
    duration_us: int
    request_bytes: int
    answer_bytes: int
    principal_id: str = ""
    principal_name: str = ""
    subject: str = ""
    version: str = ""
    channel: str = ""
    client: str = ""
    revision: str = ""
    code: str = ""
    time: int = msgspec.field(default_factory=_now)
    id: bytes = msgspec.field(default_factory=_new_id)


_TEXTS = tuple(field.name for field in msgspec.structs.fields(CallEntry) if field.type is str)


class Segment:
    """One file and its lock. `size` bytes and `records` records of it are whole."""

    __slots__ = ("_begin", "_end", "_window", "descriptor", "path", "records", "size")

    def __init__(self, path: Path, descriptor: int, size: int = 0) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size = size
        self.records = 0
        self._window: mmap.mmap | None = None
        self._begin = self._end = 0

    @property
    def room(self) -> int:
        """Bytes that can be appended for sure."""
        return self._end - self.size

    def append(self, record: bytes) -> None:
        """Copy a record behind the last one. Raises OSError, and leaves nothing behind, when there is no room."""
        end = self.size + len(record)
        if end > self._end:
            self.make_room()
        assert self._window is not None
        self._window[self.size - self._begin : end - self._begin] = record
        self.size = end
        self.records += 1

    def make_room(self) -> None:
        """Map what follows the last record. Raises OSError, for one when the disk is full.

        The disk gives the room first: storing to a page that it has none for would kill the process.
        """
        begin = self.size // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        try:
            os.posix_fallocate(self.descriptor, begin, WINDOW)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, self._end)
            raise
        window = mmap.mmap(self.descriptor, WINDOW, offset=begin)
        self._unmap()
        self._window, self._begin, self._end = window, begin, begin + WINDOW

    def _unmap(self) -> None:
        window, self._window = self._window, None
        self._begin = self._end = 0
        if window is not None:
            window.close()

    def discard(self) -> None:
        """Remove the file, then let go of its lock: in this order nobody can adopt it in between."""
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let go of the lock; the file is an orphan from here on. A record that comes too late is refused."""
        self._unmap()  # the map holds on to the file, and so to the lock
        descriptor, self.descriptor = self.descriptor, -1
        os.close(descriptor)

    def read(self, offset: int, limit: int) -> tuple[list[CallEntry], int]:
        """At most `limit` entries from `offset`, and the offset after them."""
        entries: list[CallEntry] = []
        for payload, end in islice(self._payloads(offset), limit):
            offset = end
            try:
                entries.append(_decoder.decode(payload))
            except msgspec.DecodeError as error:
                # Whole but strange: written by another release. It must not hold up what follows.
                _log.error("call_log.record_skipped", file=self.path.name, error=str(error))
        return entries, offset

    def is_torn(self, offset: int) -> bool:
        """Whether something was begun at `offset`, where whole records end."""
        return any(os.pread(self.descriptor, _HEAD.size, offset))

    def _payloads(self, offset: int) -> Iterator[tuple[memoryview, int]]:
        """Payloads and where they end, up to the end or the first record that is torn."""
        chunk = b""
        start = offset
        while offset + _HEAD.size <= self.size:
            if offset + _HEAD.size + LARGEST > start + len(chunk) < self.size:
                chunk = os.pread(self.descriptor, min(16 * LARGEST, self.size - offset), offset)
                start = offset
            at = offset - start
            if at + _HEAD.size > len(chunk):
                return
            length, crc = _HEAD.unpack_from(chunk, at)
            payload = memoryview(chunk)[at + _HEAD.size : at + _HEAD.size + length]
            if not length or len(payload) != length or zlib.crc32(payload) != crc:
                return
            offset += _HEAD.size + length
            yield payload, offset


_decoder = msgspec.msgpack.Decoder(CallEntry)
_encoder = msgspec.msgpack.Encoder()


def create(directory: Path) -> Segment:
    """A new, locked, empty file. It is named only once it is locked, so it is never taken for an orphan."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{uuid4().hex}{SUFFIX}"
    unnamed = path.with_suffix(".new")
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unnamed.rename(path)
    return Segment(path, descriptor)


def adopt(path: Path) -> Segment | None:
    """A dead process's file, locked; None when its owner lives or somebody has shipped it meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    status = os.fstat(descriptor)
    if not status.st_nlink:
        os.close(descriptor)
        return None
    return Segment(path, descriptor, status.st_size)


def watched(path: Path) -> Segment | None:
    """A file that its owner is still writing, to be read as far as it goes; None when it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    return Segment(path, descriptor, os.fstat(descriptor).st_size)


class Journal:
    """Written by one thread (the event loop's), read by the shipping thread up to `Segment.size`."""

    def __init__(self, directory: Path, *, reserve: int = RESERVE, rotate_at: int = ROTATE_AT) -> None:
        self.directory = Path(directory)
        self.segments: deque[Segment] = deque([create(self.directory)])
        self.on_rotation: Callable[[], None] = lambda: None
        self.appended = 0
        self._current = self.segments[-1]
        self._reserve = reserve
        self._rotate_at = rotate_at
        self._failed = False
        self._is_lost = False
        self._has_room = True
        self._checked_at = 0.0

    @property
    def accepting(self) -> bool:
        """False while the last write failed or the disk is nearly full. Mends itself; cheap to ask."""
        now = time.monotonic()
        if now - self._checked_at >= CHECK_EVERY:
            self._checked_at = now
            self._look()
        return self._has_room and not self._failed

    def append(self, entry: CallEntry) -> None:
        """Write one record, some microseconds. Raises `JournalFailed` when it is not wholly in the file."""
        try:
            payload = _encoder.encode(entry)
        except UnicodeEncodeError:
            payload = _encoder.encode(_encodable(entry))
        if len(payload) > LARGEST:
            raise JournalFailed("The record of this call is too long to be kept.")
        try:
            if self._is_lost or self._current.size >= self._rotate_at:
                self._rotate()
            self._current.append(_HEAD.pack(len(payload), zlib.crc32(payload)) + payload)
        except OSError as error:
            raise self._failure(error) from error
        self._failed = False
        self.appended += 1

    def close(self) -> None:
        """Let go of what was not shipped; the next process adopts it."""
        while self.segments:
            self.segments.popleft().release()

    def _failure(self, error: OSError) -> JournalFailed:
        self._failed = True
        why = "the disk is full" if error.errno in _FULL else error.strerror or "unknown error"
        return JournalFailed(f"The call log cannot be written: {why}.")

    def _rotate(self) -> None:
        fresh = create(self.directory)
        self._current, self._is_lost = fresh, False
        self.segments.append(fresh)
        self.on_rotation()

    def _look(self) -> None:
        """Is there room, is the file still in its folder, and does a failed journal work again?"""
        try:
            status = os.fstatvfs(self._current.descriptor)
            is_linked = os.fstat(self._current.descriptor).st_nlink > 0
        except OSError:
            self._has_room = False
            return
        self._has_room = status.f_bavail * status.f_frsize >= self._reserve
        if not is_linked:
            self._failed = self._is_lost = True
        if (self._failed and self._has_room) or self._current.room < WINDOW // 2:
            self._prepare()

    def _prepare(self) -> None:
        """Make room for the next records; success clears a failure."""
        try:
            if self._is_lost:
                self._rotate()
            self._current.make_room()
        except OSError:
            self._failed = True
        else:
            self._failed = False


def _encodable(entry: CallEntry) -> CallEntry:
    """Lone surrogates reach us through JSON escapes and have no UTF-8."""
    cleaned = {name: getattr(entry, name).encode("utf-8", "replace").decode() for name in _TEXTS}
    return msgspec.structs.replace(entry, **cleaned)
