"""An upstream is looked at by the product itself, without anybody calling a tool of it."""

from __future__ import annotations

import json
import urllib.request
from threading import Event
from typing import Any

import pytest

from tests.installation import Installation
from tests.origin import PetShop
from tests.product.processes import until


@pytest.fixture
def key(installation: Installation, pets: tuple[str, str, str]) -> str:
    return installation.key(pets[2].split("/")[0], "--scope", "servers:read")


def health(installation: Installation, key: str) -> Any:
    request = urllib.request.Request(
        f"{installation.origin}/api/v1/servers/pets/health", headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def test_what_is_published_is_looked_at_within_half_a_minute(
    installation: Installation, pets: tuple[str, str, str], shop: tuple[PetShop, str], key: str
) -> None:
    seen, pause = len(shop[0].cookies_seen), Event()

    def is_known() -> bool:
        pause.wait(0.5)
        return bool(health(installation, key)["state"] != "unknown")

    until(is_known, "the first look", seconds=40)
    told = health(installation, key)
    (upstream,) = told["upstreams"]
    # The root of the shop is answered with 404, and nothing else was asked for.
    assert (told["state"], upstream["name"], upstream["uptime"]["24h"]) == ("healthy", shop[1], 1.0)
    assert len(shop[0].cookies_seen) == seen + 1
