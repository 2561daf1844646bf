from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from servers.runner.sandbox import cgroups
from servers.runner.sandbox.cgroups import Limiter

# One moment for all builds of a run, so that what is locked is the same.
WHEN = datetime.now(UTC)


@pytest.fixture(scope="module")
def limiter(sandboxes: None) -> Iterator[Limiter]:
    found = cgroups.find(f"mooring-test-builds-{os.getpid()}")
    yield found
    found.close()
