from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandboxes import readable_folder, require_sandboxes


@pytest.fixture(scope="session")
def sandboxes() -> None:
    require_sandboxes()


@pytest.fixture(scope="module")
def workshop(sandboxes: None) -> Iterator[Path]:
    """Where a module's tests put artifacts."""
    with readable_folder() as folder:
        yield folder
