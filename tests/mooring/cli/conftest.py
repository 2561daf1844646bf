"""An installation of its own, with its web server running, and the `mooring` command as a process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation import Installation, installed

ECHO = Path(__file__).with_name("echo.yaml")


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("installation")) as made:
        yield made


@pytest.fixture
def echo_file(tmp_path: Path) -> Path:
    """A copy that the test may change."""
    return Path(shutil.copy(ECHO, tmp_path))
