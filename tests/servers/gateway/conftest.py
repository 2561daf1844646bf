"""What most tests of the gateway begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.servers.conftest import GatewayDriver

if TYPE_CHECKING:
    from tests.conftest import World


@pytest.fixture
def desk(world: World, gateway: GatewayDriver) -> str:
    """A published private server; `<tenant>/<server>`."""
    from tests.servers.gateway.desk import (  # conftest files are read before Django is set up
        MANIFEST,
        published,
    )

    return published(world, gateway, MANIFEST)


@pytest.fixture
def key(world: World, key_of: Callable[..., str]) -> str:
    return key_of(world.acme)
