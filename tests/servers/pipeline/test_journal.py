"""The record of calls on disk, and its way into the database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from mooring.scope import system_scope, tenant_scope
from servers.models import CallRecord
from servers.pipeline.journal import WINDOW, CallEntry, Journal, JournalFailed, adopt
from servers.pipeline.shipping import Shipper
from tenants.models import ApiKey
from tests.conftest import World


def an_entry(tenant: uuid.UUID | None = None, **fields: Any) -> CallEntry:
    given: dict[str, Any] = {
        "tenant_id": (tenant or uuid.uuid4()).bytes,
        "server_id": uuid.uuid4().bytes,
        "server_slug": "weather",
        "request_id": str(uuid.uuid4()),
        "principal_kind": "anonymous",
        "method": "tools/call",
        "subject": "get_forecast",
        "status": "ok",
        "duration_us": 1_234,
        "request_bytes": 300,
        "answer_bytes": 5_000,
    }
    return CallEntry(**given | fields)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    kept = Journal(tmp_path, reserve=0)
    yield kept
    kept.close()


@pytest.fixture
def shipping() -> Iterator[Callable[[Journal], Shipper]]:
    """`shipping(journal)` is a running shipper that beats fast."""
    started: list[Shipper] = []

    def start(journal: Journal) -> Shipper:
        shipper = Shipper(journal, every=0.02, adopt_every=0.02)
        shipper.start()
        started.append(shipper)
        return shipper

    yield start
    for shipper in started:
        shipper.stop()


def until(is_true: Callable[[], object], seconds: float = 10.0) -> None:
    """Look again and again, without sleeping away the processor."""
    pause, left = Event(), seconds
    while not is_true():
        assert left > 0, "it did not come true in time"
        pause.wait(0.02)
        left -= 0.02


def recorded(tenant: uuid.UUID) -> list[CallRecord]:
    with tenant_scope(tenant):
        return list(CallRecord.objects.order_by("id"))


# ---- the file --------------------------------------------------------------------------------------------


def test_what_was_appended_is_read_in_order(journal: Journal) -> None:
    entries = [an_entry(subject=f"tool {number}") for number in range(1_200)]
    for entry in entries:
        journal.append(entry)
    first, offset = journal.segments[0].read(0, 500)
    second, offset = journal.segments[0].read(offset, 500)
    third, offset = journal.segments[0].read(offset, 500)
    assert [*first, *second, *third] == entries
    assert offset == journal.segments[0].size


def test_ids_are_uuids_of_version_7_that_sort_by_time() -> None:
    ids = [uuid.UUID(bytes=an_entry().id) for _ in range(100)]
    assert {(each.version, each.variant) for each in ids} == {(7, uuid.RFC_4122)}
    assert len(set(ids)) == 100
    moment = datetime.fromtimestamp((ids[0].int >> 80) / 1_000, UTC)
    assert abs(moment - timezone.now()) < timedelta(minutes=1)


@pytest.mark.parametrize("kept_bytes", [1, 7, 8, 9, -1])
def test_a_torn_tail_is_dropped_and_what_precedes_it_is_kept(journal: Journal, kept_bytes: int) -> None:
    whole = an_entry()
    journal.append(whole)
    end = journal.segments[0].size
    journal.append(an_entry())
    path = journal.segments[0].path
    records = path.read_bytes()[: journal.segments[0].size]  # without the room for more
    torn = records[: end + kept_bytes if kept_bytes > 0 else kept_bytes]
    journal.close()
    path.write_bytes(torn)
    segment = adopt(path)
    assert segment is not None
    assert segment.read(0, 10) == ([whole], end)
    assert segment.is_torn(end)
    segment.release()


def test_a_record_with_a_flipped_bit_is_not_believed(journal: Journal) -> None:
    journal.append(an_entry())
    path = journal.segments[0].path
    damaged = bytearray(path.read_bytes())
    damaged[journal.segments[0].size - 20] ^= 1
    journal.close()
    path.write_bytes(damaged)
    segment = adopt(path)
    assert segment is not None
    assert segment.read(0, 10) == ([], 0)
    segment.release()


def test_lone_surrogates_do_not_stop_a_record(journal: Journal) -> None:
    journal.append(an_entry(subject="tool \ud800", client="\udfff"))
    (entry,), _ = journal.segments[0].read(0, 1)
    assert (entry.subject, entry.client) == ("tool ?", "?")


def test_a_full_file_is_followed_by_a_new_one_with_another_name(tmp_path: Path) -> None:
    journal = Journal(tmp_path, reserve=0, rotate_at=1_000)
    for _ in range(10):
        journal.append(an_entry())
    names = {segment.path.name for segment in journal.segments}
    assert len(names) == len(journal.segments) > 1
    assert sum(segment.records for segment in journal.segments) == 10
    journal.close()


def test_the_file_of_a_living_process_cannot_be_adopted(journal: Journal) -> None:
    assert adopt(journal.segments[0].path) is None


def test_a_nearly_full_disk_refuses_new_calls_but_still_records(tmp_path: Path) -> None:
    journal = Journal(tmp_path, reserve=2**62)
    assert not journal.accepting
    journal.append(an_entry())
    assert journal.appended == 1
    journal.close()


def test_a_journal_whose_file_was_removed_goes_on_in_a_new_one(journal: Journal) -> None:
    journal.segments[0].path.unlink()
    until(lambda: len(journal.segments) == 2 or not journal.accepting)
    until(lambda: journal.accepting)
    journal.append(an_entry())
    assert journal.segments[-1].path.exists()
    assert journal.segments[-1].records == 1


# A limit on the size of files makes the kernel refuse to give more room, as a full disk does.
FULL = """
import resource, sys
from pathlib import Path
from threading import Event
from tests.servers.pipeline.test_journal import an_entry
from servers.pipeline.journal import LARGEST, Journal, JournalFailed

journal = Journal(Path(sys.argv[1]), reserve=0)
assert journal.accepting
journal.append(an_entry())
size = journal.segments[0].path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
while journal.segments[0].room > LARGEST:
    journal.append(an_entry(subject="x" * 60_000))
whole = journal.segments[0].records
for _ in range(3):
    try:
        journal.append(an_entry(subject="x" * 65_000))
    except JournalFailed as error:
        print(error.message)
assert journal.segments[0].path.stat().st_size == size, "half a record was left behind"
assert not journal.accepting
Event().wait(0.3)
assert not journal.accepting, "it recovered while the disk was full"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
Event().wait(0.3)
assert journal.accepting, "it did not recover"
journal.append(an_entry())
entries, end = journal.segments[-1].read(0, 100)
assert len(entries) == whole + 1 and end == journal.segments[-1].size
print("recovered")
"""


def run_python(program: str, *arguments: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[3]
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=root,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "mooring.settings"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_write_that_fails_half_way_leaves_nothing_behind_and_recovers_by_itself(tmp_path: Path) -> None:
    program = "import django; django.setup()\n" + FULL
    output, _ = run_python(program, str(tmp_path)).communicate(timeout=60)
    assert output.splitlines() == [
        "The call log cannot be written: the disk is full.",
        *["The call log cannot be written: the disk is full."] * 2,
        "recovered",
    ]


# What fits in the room that was made before is recorded, and meanwhile nothing new is taken.
FILLING = """
import resource, sys
from pathlib import Path
from threading import Event
from tests.servers.pipeline.test_journal import an_entry
from servers.pipeline.journal import WINDOW, Journal

journal = Journal(Path(sys.argv[1]), reserve=0)
assert journal.accepting
limit = journal.segments[0].path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
while journal.segments[0].room > WINDOW // 2:
    journal.append(an_entry(subject="x" * 60_000))
Event().wait(0.3)
assert not journal.accepting, "it takes calls until one of them cannot be recorded"
journal.append(an_entry())
assert journal.segments[0].records == journal.appended
print("recorded")
"""


def test_a_full_disk_is_noticed_before_a_call_is_lost(tmp_path: Path) -> None:
    program = "import django; django.setup()\n" + FILLING
    output, _ = run_python(program, str(tmp_path)).communicate(timeout=60)
    assert output == "recorded\n"


def test_records_are_kept_beyond_the_first_window_of_a_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path, reserve=0)
    entries = [an_entry(subject=f"{number} " + "x" * 50_000) for number in range(3 * WINDOW // 50_000)]
    for entry in entries:
        journal.append(entry)
    segment = journal.segments[0]
    assert segment.size > 2 * WINDOW
    assert segment.path.stat().st_size - segment.size <= WINDOW
    assert segment.read(0, len(entries) + 1) == (entries, segment.size)
    journal.close()
    adopted = adopt(segment.path)
    assert adopted is not None
    read, end = adopted.read(0, len(entries) + 1)
    assert read == entries
    assert not adopted.is_torn(end)
    adopted.release()


def test_nothing_can_be_appended_after_the_end(journal: Journal) -> None:
    segment = journal.segments[0]
    segment.discard()
    with pytest.raises(JournalFailed):
        journal.append(an_entry())
    journal.segments.clear()


# ---- shipping --------------------------------------------------------------------------------------------


def test_records_become_rows_with_every_field(
    world: World, journal: Journal, shipping: Callable[[Journal], Shipper]
) -> None:
    shipping(journal)
    entry = an_entry(
        world.acme.id,
        principal_kind="user",
        principal_id="7",
        principal_name="alice@example.com",
        version="1.2.0",
        channel="live",
        client="claude-code 2.1",
        revision="2025-11-25",
        code="upstream_timeout",
        status="error",
    )
    journal.append(entry)
    until(lambda: recorded(world.acme.id))
    (row,) = recorded(world.acme.id)
    assert row.id.bytes == entry.id
    assert row.server_id.bytes == entry.server_id
    assert row.time == datetime.fromtimestamp(0, UTC) + timedelta(microseconds=entry.time)
    same = set(CallEntry.__struct_fields__) - {"id", "tenant_id", "server_id", "time"}
    assert {name: getattr(row, name) for name in same} == {name: getattr(entry, name) for name in same}


def test_many_batches_arrive_once_and_leave_no_lag(
    world: World, journal: Journal, shipping: Callable[[Journal], Shipper]
) -> None:
    shipper = Shipper(journal, every=60)
    entries = [an_entry(world.acme.id) for _ in range(1_300)]
    for entry in entries:
        journal.append(entry)
    assert shipper.lag().records == 1_300
    shipper.start()
    until(lambda: shipper.lag().records == 0)
    journal.append(an_entry(world.acme.id))
    assert shipper.lag().records == 1
    shipper.ship_soon()
    until(lambda: shipper.lag() == (0, 0.0))
    shipper.stop()
    assert len(recorded(world.acme.id)) == 1_301


def test_a_clean_stop_ships_the_rest_and_leaves_no_file(world: World, tmp_path: Path) -> None:
    journal = Journal(tmp_path, reserve=0, rotate_at=1_000)
    shipper = Shipper(journal, every=60)
    shipper.start()
    for _ in range(20):
        journal.append(an_entry(world.acme.id))
    shipper.stop()
    journal.close()
    assert len(recorded(world.acme.id)) == 20
    assert list(tmp_path.iterdir()) == []


def test_rotated_files_are_removed_once_they_are_shipped(
    world: World, tmp_path: Path, shipping: Callable[[Journal], Shipper]
) -> None:
    journal = Journal(tmp_path, reserve=0, rotate_at=1_000)
    shipping(journal)
    for _ in range(50):
        journal.append(an_entry(world.acme.id))
    until(lambda: len(recorded(world.acme.id)) == 50)
    until(lambda: len(list(tmp_path.iterdir())) == 1)


WRITE_AND_HANG = """
import sys
from pathlib import Path
from uuid import UUID
from tests.servers.pipeline.test_journal import an_entry
from servers.pipeline.journal import Journal

journal = Journal(Path(sys.argv[1]), reserve=0)
for _ in range(int(sys.argv[3])):
    journal.append(an_entry(UUID(sys.argv[2])))
print("written", flush=True)
sys.stdin.read()
"""


def test_the_records_of_a_killed_process_are_adopted(
    world: World, tmp_path: Path, shipping: Callable[[Journal], Shipper]
) -> None:
    program = "import django; django.setup()\n" + WRITE_AND_HANG
    root = Path(__file__).parents[3]
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), str(world.acme.id), "700"],
        cwd=root,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "mooring.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    shipping(Journal(tmp_path, reserve=0))
    assert recorded(world.acme.id) == [], "the file of a living process was taken"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    until(lambda: len(recorded(world.acme.id)) == 700)
    until(lambda: len(list(tmp_path.iterdir())) == 1)


def test_shipping_the_same_file_twice_adds_nothing(
    world: World, tmp_path: Path, shipping: Callable[[Journal], Shipper]
) -> None:
    old = Journal(tmp_path, reserve=0)
    for _ in range(30):
        old.append(an_entry(world.acme.id))
    path = old.segments[0].path
    copy = path.read_bytes()
    old.close()
    shipping(Journal(tmp_path, reserve=0))
    until(lambda: not path.exists())
    path.write_bytes(copy)
    until(lambda: not path.exists())
    assert len(recorded(world.acme.id)) == 30


def test_rows_that_cannot_be_kept_do_not_hold_up_the_rest(
    world: World, journal: Journal, shipping: Callable[[Journal], Shipper]
) -> None:
    shipper = shipping(journal)
    journal.append(an_entry(uuid.uuid4(), subject="of a tenant that is gone"))
    journal.append(an_entry(world.acme.id, subject="nul \0 byte"))
    journal.append(an_entry(world.acme.id, server_slug="x" * 500, duration_us=2**40, subject="too much"))
    journal.append(an_entry(world.acme.id, subject="good"))
    until(lambda: shipper.lag().records == 0)
    rows = {row.subject.replace("\0", ""): row for row in recorded(world.acme.id)}
    assert set(rows) == {"nul  byte", "too much", "good"}
    if connections["default"].vendor == "postgresql":
        assert rows["too much"].server_slug == "x" * 63
        assert rows["too much"].duration_us == 2**31 - 1


def test_a_key_shows_when_it_was_last_used(
    world: World,
    key_of: Callable[..., str],
    journal: Journal,
    shipping: Callable[[Journal], Shipper],
) -> None:
    shipper = shipping(journal)
    key_of(world.acme)
    with system_scope():
        key = ApiKey.objects.get(tenant=world.acme)
    entry = an_entry(world.acme.id, principal_kind="key", principal_id=str(key.id))
    journal.append(entry)
    journal.append(an_entry(world.acme.id, principal_kind="key", principal_id="not an id"))
    until(lambda: shipper.lag().records == 0)
    later = an_entry(
        world.acme.id, principal_kind="key", principal_id=str(key.id), time=entry.time + 59_000_000
    )
    journal.append(later)
    until(lambda: shipper.lag().records == 0)
    assert last_use_of(key) == datetime.fromtimestamp(0, UTC) + timedelta(microseconds=entry.time)
    journal.append(
        an_entry(world.acme.id, principal_kind="key", principal_id=str(key.id), time=entry.time + 61_000_000)
    )
    until(lambda: shipper.lag().records == 0)
    assert last_use_of(key) == datetime.fromtimestamp(0, UTC) + timedelta(
        microseconds=entry.time + 61_000_000
    )


def last_use_of(key: ApiKey) -> datetime | None:
    with system_scope():
        return ApiKey.objects.get(id=key.id).last_used_at


def test_a_database_that_is_away_keeps_the_file_and_is_tried_again(
    world: World, journal: Journal, shipping: Callable[[Journal], Shipper]
) -> None:
    shipper = Shipper(journal, every=0.02)
    hide_table()
    try:
        shipper.start()
        journal.append(an_entry(world.acme.id))
        until(lambda: shipper.lag().seconds > 0.2)
        assert shipper.lag().records == 1
    finally:
        hide_table(back=True)
    until(lambda: shipper.lag().records == 0)
    shipper.stop()
    assert len(recorded(world.acme.id)) == 1


def hide_table(*, back: bool = False) -> None:
    """The nearest thing to a database that is away which leaves the other tests alone."""
    from django.conf import settings

    names = ("hidden_calls", "servers_callrecord") if back else ("servers_callrecord", "hidden_calls")
    with connections[settings.OWNER_DATABASE].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {names[0]} RENAME TO {names[1]}")
    if settings.OWNER_DATABASE != "default":
        connections[settings.OWNER_DATABASE].close()
