"""The product as its users meet it: real processes, real clients."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation import Installation, installed
from tests.origin import DOCUMENT, SECRET, PetShop, pet_shop
from tests.product.processes import ProcessDriver


@pytest.fixture(scope="session")
def shop() -> Iterator[tuple[PetShop, str]]:
    with pet_shop() as running:
        yield running


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("installation")) as made:
        yield made


@pytest.fixture(scope="module")
def serving(database: None) -> Iterator[ProcessDriver]:
    """A web server on the tests' own database, so that a test can publish in a moment and call over HTTP."""
    with installed(Path(os.environ["MOORING_DATA_DIR"])) as made:
        yield ProcessDriver(made.port)


@pytest.fixture(scope="module")
def pets(
    installation: Installation, shop: tuple[PetShop, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str, str]:
    """An imported API, deployed: the endpoint's URL, a key for it, and `<tenant>/<server>`."""
    tenant = installation.tenant()
    url = deploy_pets(installation, tenant, shop[1], tmp_path_factory.mktemp("document"))
    return url, installation.key(tenant), f"{tenant}/pets"


def deploy_pets(installation: Installation, tenant: str, origin: str, folder: Path) -> str:
    path = folder / "pets.json"
    path.write_text(json.dumps(DOCUMENT))
    printed = installation.ok(
        *("deploy", str(path), "--tenant", tenant, "--server", "pets"),
        *("--base-url", f"{origin}/v1", "--secret", f"token={SECRET}"),
    )
    return printed.splitlines()[-1]
