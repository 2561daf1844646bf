from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.runner.building.builds import Builder
from servers.runner.building.inside.bounds import MIB
from servers.runner.sandbox import cgroups
from servers.runner.sandbox.cgroups import Limiter
from tests.sandboxes import readable_folder
from tests.servers.runner.building.hand_made import builder_in, environ_of
from tests.servers.runner.building.wheels import make_source, make_wheel


@pytest.fixture(scope="module")
def limiter(sandboxes: None) -> Iterator[Limiter]:
    found = cgroups.find(f"mooring-test-builds-{os.getpid()}")
    yield found
    found.close()


@pytest.fixture(scope="module")
def shelf() -> Iterator[Path]:
    """The folder of wheels that is the operator's whole index."""
    with readable_folder() as folder:
        make_wheel(folder, "plain")
        make_wheel(folder, "other")
        make_source(folder, "onlysource")
        marker = (
            "import os; os.system('touch /tmp/mooring-pth-ran'); os.system('touch /app/mooring-pth-ran')\n"
        )
        make_wheel(folder, "marking", files={"marking.pth": marker.encode()})
        make_wheel(folder, "huge", files={f"huge_{n}.bin": bytes(160 * MIB) for n in range(2)})
        for number in range(101):
            make_wheel(folder, f"small{number}")
        make_wheel(folder, "many", requires=tuple(f"small{number}" for number in range(101)))
        yield folder


@pytest.fixture(scope="module")
def store(workshop: Path) -> Path:
    return workshop / "store"


@pytest.fixture
def builder(store: Path, limiter: Limiter, shelf: Path) -> Builder:
    return builder_in(store, limiter, environ_of(shelf))
