"""The process beside a gateway that ships its journal, and what the gateway knows of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.scope import system_scope, tenant_scope
from servers.models import CallRecord
from servers.pipeline.following import Follower, Progress, _Following
from servers.pipeline.journal import Journal
from servers.pipeline.metrics import REGISTRY
from servers.pipeline.shipping import CallRows, is_running, ship_orphans
from tests.conftest import World
from tests.servers.pipeline.test_journal import an_entry


class Pair:
    """A gateway's end and the other one, here in one process and in step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pipe = os.pipe()
        progress = Progress()
        self.journal = Journal(folder, reserve=0, rotate_at=1_000)
        self.follower = Follower(0, self.pipe[1], progress)
        self.follower.follow(self.journal)
        self._following = _Following(folder, self.pipe[0], progress)

    def append(self, world: World, records: int) -> None:
        for _ in range(records):
            self.journal.append(an_entry(world.acme.id))

    def ship(self) -> None:
        self._following._listen(0)
        assert self._following._rounds.run(is_last=True)

    def ship_elsewhere(self) -> None:
        """As any gateway on the same folder does with files that nobody holds."""
        with system_scope():
            ship_orphans(self.folder, CallRows())

    def lag(self) -> int:
        """As `/metrics` tells it."""
        told = REGISTRY.get_sample_value("mcp_journal_lag_records")
        assert told == self.follower.lag().records
        return int(told)

    def close(self) -> None:
        is_running(None)
        self.journal.close()
        for end in self.pipe:
            os.close(end)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


def rows(world: World) -> int:
    with tenant_scope(world.acme.id):
        return CallRecord.objects.count()


def test_what_is_written_and_not_shipped_is_the_lag(pair: Pair, world: World) -> None:
    pair.append(world, 20)
    assert (pair.lag(), len(list(pair.folder.iterdir())) > 2) == (20, True)
    pair.ship()
    assert (pair.lag(), rows(world), len(list(pair.folder.iterdir()))) == (0, 20, 1)
    pair.append(world, 1)
    assert pair.lag() == 1


def test_files_that_another_process_has_shipped_are_no_lag(pair: Pair, world: World) -> None:
    pair.append(world, 20)
    pair.ship_elsewhere()
    shipped = rows(world)
    assert 0 < shipped < 20
    pair.ship()
    assert (pair.lag(), rows(world)) == (0, 20)
    pair.append(world, 20)
    pair.ship()
    pair.append(world, 20)
    pair.ship_elsewhere()
    pair.append(world, 3)
    pair.ship()
    assert (pair.lag(), rows(world)) == (0, 63)
