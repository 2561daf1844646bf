"""Brings the journal's records into the database.

Rows are idempotent by their id, so a batch may be shipped twice, by two processes, or half and again. A thread of
the process that writes them does so where no other process can (`following`). It shares the interpreter with the
calls it records, hence plain SQL: the ORM takes five times as long.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import structlog
from django.db import DataError, IntegrityError, connections, models, router, transaction
from django.db.models import Q

from mooring.scope import system_scope
from servers.models import CallRecord
from servers.pipeline.journal import SUFFIX, CallEntry, Journal, Segment, adopt
from tenants.models import ApiKey, Tenant

BATCH = 500
SHIP_EVERY = 0.5
ADOPT_EVERY = 10.0
LONGEST_WAIT = 15.0
KEY_USE_EVERY = timedelta(minutes=1)
# Above this many remembered tenants or keys the memory is simply begun anew.
REMEMBERED = 50_000
LARGEST_NUMBER = 2**31 - 1
# What a database raises about a row; anything else is about the database itself.
_REFUSED = (IntegrityError, DataError, ValueError, OverflowError)
_log = structlog.get_logger(__name__)


class Lag(NamedTuple):
    """What this process has written and not yet shipped; `seconds` since it was last all shipped."""

    records: int
    seconds: float


class Rounds:
    """Shipping again and again what `ship_own` ships and what the dead have left in `directory`."""

    def __init__(
        self, directory: Path, ship_own: Callable[[CallRows], None], *, every: float, adopt_every: float
    ) -> None:
        self._directory = directory
        self._ship_own = ship_own
        self._every = every
        self._adopt_every = adopt_every
        self._adopt_at = 0.0
        self._failures = 0
        self.rows = CallRows()

    @property
    def pause(self) -> float:
        """Seconds until the next round, doubling while the database is away."""
        return min(self._every * (1 << self._failures), LONGEST_WAIT)

    def run(self, *, is_last: bool) -> bool:
        """One round; the last is for our own records alone. Whether the database took all of them."""
        try:
            with system_scope():
                self._ship_own(self.rows)
                if not is_last and time.monotonic() >= self._adopt_at:
                    ship_orphans(self._directory, self.rows)
                    self._adopt_at = time.monotonic() + self._adopt_every
            self._failures = 0
        except Exception as error:  # noqa: BLE001  # the main loop of a worker: it must outlive every failure
            self._failures = min(self._failures + 1, 10)
            _log.warning("call_log.not_shipped", error=str(error))
            connections.close_all()
        return not self._failures


def ship_orphans(directory: Path, rows: CallRows) -> None:
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            _ship_orphan(path, rows)
        except OSError as error:  # another user's, perhaps; it must not stand before the others
            _log.error("call_log.orphan_unreadable", file=path.name, error=error.strerror)


def _ship_orphan(path: Path, rows: CallRows) -> None:
    segment = adopt(path)
    if segment is None:
        return
    try:
        records, offset = _ship_whole(segment, rows)
    except BaseException:
        segment.release()
        raise
    if segment.is_torn(offset):
        _log.warning("call_log.torn_tail", file=path.name, at=offset)
    _log.info("call_log.adopted", file=path.name, records=records)
    segment.discard()


def _ship_whole(segment: Segment, rows: CallRows) -> tuple[int, int]:
    """Records shipped, and where the last whole one ends."""
    records, offset = 0, 0
    while True:
        entries, end = segment.read(offset, BATCH)
        if end == offset:
            return records, offset
        rows.insert(entries)
        records, offset = records + len(entries), end


class Shipper:
    """Call `start` once, on the process that owns the journal, and `stop` before closing the journal."""

    def __init__(
        self, journal: Journal, *, every: float = SHIP_EVERY, adopt_every: float = ADOPT_EVERY
    ) -> None:
        self.journal = journal
        self._rounds = Rounds(journal.directory, self._ship_own, every=every, adopt_every=adopt_every)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="call-log", daemon=True)
        self._offset = 0
        self._shipped = 0
        self._caught_up_at = time.monotonic()

    def start(self) -> None:
        is_running(self)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Ship what is there, once, and end. What cannot be shipped stays on disk for the next process.

        Call it on the thread that appends, after its last record.
        """
        is_running(None)
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is None:
            return
        self._thread.join(timeout)
        segments = self.journal.segments
        if not self._thread.is_alive() and len(segments) == 1 and self._offset >= segments[0].size:
            segments.popleft().discard()

    def ship_soon(self) -> None:
        self._wake.set()

    def look(self) -> None:
        """A thread does not die."""

    def lag(self) -> Lag:
        records = self.journal.appended - self._shipped
        return Lag(records, time.monotonic() - self._caught_up_at if records else 0.0)

    # ---- the thread ----------------------------------------------------------------------------------

    def _work(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stopping.is_set()
            self._rounds.run(is_last=is_last)
            if not is_last:
                self._wake.wait(self._rounds.pause)
                self._wake.clear()
        connections.close_all()

    def _ship_own(self, rows: CallRows) -> None:
        segments = self.journal.segments
        while True:
            is_current = len(segments) == 1
            self._ship_segment(segments[0], rows)
            if is_current:
                return
            segments.popleft().discard()
            self._offset = 0

    def _ship_segment(self, segment: Segment, rows: CallRows) -> None:
        """Ship up to the end that is seen on the way."""
        while True:
            seen_at, appended = time.monotonic(), self.journal.appended
            if self._offset >= segment.size:
                break
            entries, offset = segment.read(self._offset, BATCH)
            if offset == self._offset:
                _log.error("call_log.unreadable", file=segment.path.name, dropped_bytes=segment.size - offset)
                offset = segment.size
            rows.insert(entries)
            self._offset = offset
            self._shipped += len(entries)
        if segment is self.journal.segments[-1]:
            self._shipped, self._caught_up_at = appended, seen_at


class Shipping(Protocol):
    """Whoever ships the records of this process."""

    journal: Journal

    def lag(self) -> Lag: ...

    def ship_soon(self) -> None:
        """Ask for the next batch now instead of at the next beat. Never waits."""

    def look(self) -> None:
        """To be called now and then: whoever ships may have died and need a deputy. Never waits."""

    def stop(self) -> None:
        """Ship the rest, if it can be done within seconds; what is left stays on disk for the next process.

        Nothing may be appended any more.
        """


_running: Shipping | None = None


def running() -> Shipping | None:
    """The shipping of this process, for whoever asks how it is."""
    return _running


def is_running(shipping: Shipping | None) -> None:
    global _running
    _running = shipping


class CallRows:
    """Inserts entries as rows of `CallRecord`, and notes when keys were last used."""

    def __init__(self) -> None:
        self._tenants: set[bytes] = set()
        self._key_uses: dict[str, int] = {}

    def insert(self, entries: Sequence[CallEntry]) -> None:
        """Raises `DatabaseError` when the database is away; a row it refuses is logged and left out."""
        kept = self._of_known_tenants(entries)
        if not kept:
            return
        try:
            _insert(kept)
        except _REFUSED:
            self._insert_fitted(kept)
        self._note_key_uses(kept)

    def _of_known_tenants(self, entries: Sequence[CallEntry]) -> list[CallEntry]:
        if len(self._tenants) > REMEMBERED:
            self._tenants.clear()
        unknown = {entry.tenant_id for entry in entries} - self._tenants
        if unknown:
            asked = [uuid.UUID(bytes=tenant) for tenant in unknown if len(tenant) == 16]
            found = Tenant.objects.filter(id__in=asked).values_list("id", flat=True)
            self._tenants |= {tenant.bytes for tenant in found}
        kept = [entry for entry in entries if entry.tenant_id in self._tenants]
        if len(kept) != len(entries):
            _log.warning("call_log.tenant_gone", dropped=len(entries) - len(kept))
        return kept

    def _insert_fitted(self, entries: Sequence[CallEntry]) -> None:
        """One odd row in a batch, such as a name with a zero byte, must not make all of them as dear as it."""
        try:
            _insert([_fitted(entry) for entry in entries])
        except _REFUSED:
            self._insert_singly(entries)

    def _insert_singly(self, entries: Iterable[CallEntry]) -> None:
        """One refused row must not hold up the others."""
        self._tenants.clear()
        for entry in entries:
            try:
                _insert([_fitted(entry)])
            except _REFUSED as error:
                _log.error("call_log.row_refused", record=entry.id.hex(), error=str(error))

    def _note_key_uses(self, entries: Iterable[CallEntry]) -> None:
        """`last_used_at`, at most once a minute for each key, so that a busy key costs next to nothing."""
        newest: dict[str, int] = {}
        for entry in entries:
            if entry.principal_kind == "key":
                newest[entry.principal_id] = max(entry.time, newest.get(entry.principal_id, 0))
        if len(self._key_uses) > REMEMBERED:
            self._key_uses.clear()
        for key, used in newest.items():
            if used - self._key_uses.get(key, 0) >= KEY_USE_EVERY / timedelta(microseconds=1):
                _note_key_use(key, used)
                self._key_uses[key] = used


def _note_key_use(key: str, used: int) -> None:
    try:
        key_id = uuid.UUID(key)
    except ValueError:
        return
    moment = _moment(used)
    older = Q(last_used_at__isnull=True) | Q(last_used_at__lt=moment)
    ApiKey.objects.filter(older, id=key_id).update(last_used_at=moment)


# ---- SQL -------------------------------------------------------------------------------------------------

_TABLE = CallRecord._meta.db_table
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _stored_moment(microseconds: int) -> str:
    """As Django writes it on SQLite: in UTC, without saying so."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_stored_second(seconds)}.{rest:06}" if rest else _stored_second(seconds)


@lru_cache(maxsize=64)
def _stored_second(seconds: int) -> str:
    """A batch is of a few seconds, and writing one out takes longer than all the rest of a row."""
    return str(_moment(seconds * 1_000_000).replace(tzinfo=None))


_IDS = tuple(field.name for field in msgspec.structs.fields(CallEntry) if field.type is bytes)
_TEXTS = tuple(field.name for field in msgspec.structs.fields(CallEntry) if field.type is str)
_NUMBERS = ("duration_us", "request_bytes", "answer_bytes")
_COLUMNS = (*_IDS, *_TEXTS, *_NUMBERS, "time")
_ids, _texts, _numbers = attrgetter(*_IDS), attrgetter(*_TEXTS), attrgetter(*_NUMBERS)
_SQLITE = (
    f"INSERT INTO {_TABLE} ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))}) "
    "ON CONFLICT (id) DO NOTHING"
)
# One array a column: one round trip, and a plan that does not depend on the number of rows.
_ARRAYS = (
    ["uuid[]"] * len(_IDS) + ["text[]"] * len(_TEXTS) + ["integer[]"] * len(_NUMBERS) + ["timestamptz[]"]
)
_POSTGRES = (
    f"INSERT INTO {_TABLE} ({', '.join(_COLUMNS)}) "
    f"SELECT * FROM unnest({', '.join(f'%s::{array}' for array in _ARRAYS)}) ON CONFLICT (id) DO NOTHING"
)


def _insert(entries: Sequence[CallEntry]) -> None:
    connection = connections[router.db_for_write(CallRecord)]
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            rows = (_row(entry, _moment(entry.time)) for entry in entries)
            cursor.execute(_POSTGRES, [list(column) for column in zip(*rows, strict=True)])
        else:
            cursor.executemany(_SQLITE, [_row(entry, _stored_moment(entry.time)) for entry in entries])


def _row(entry: CallEntry, moment: datetime | str) -> tuple[str | int | datetime, ...]:
    return (*map(bytes.hex, _ids(entry)), *_texts(entry), *_numbers(entry), moment)


def _fitted(entry: CallEntry) -> CallEntry:
    """What the columns can hold, for an entry whose row was refused."""
    texts = {name: getattr(entry, name).replace("\0", "")[: _length_of(name)] for name in _TEXTS}
    numbers = {name: min(max(getattr(entry, name), 0), LARGEST_NUMBER) for name in _NUMBERS}
    return msgspec.structs.replace(entry, **texts, **numbers)


def _length_of(name: str) -> int | None:
    field = CallRecord._meta.get_field(name)
    return field.max_length if isinstance(field, models.CharField) else None
