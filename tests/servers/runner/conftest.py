from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandboxes import readable_folder, require_sandboxes


@pytest.fixture(autouse=True)
def once(request: pytest.FixtureRequest) -> None:
    """Nothing here knows of a database, so one set-up is enough."""
    if request.config.getoption("--setup") == "production":
        pytest.skip("the same in both; once is enough")


@pytest.fixture(scope="session")
def sandboxes() -> None:
    require_sandboxes()


@pytest.fixture(scope="module")
def workshop(sandboxes: None) -> Iterator[Path]:
    """Where a module's tests put artifacts."""
    with readable_folder() as folder:
        yield folder
