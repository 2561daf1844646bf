"""What a member is shown and offered; who may open what stands in tests/test_permissions.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django.test import Client

    from tests.mooring.dashboard.conftest import Stage


def test_rows_of_another_organisation_are_missing_in_ones_own(
    stage: Stage, client_of: Callable[..., Client]
) -> None:
    eve = client_of(stage.world.eve)
    own = f"/app/{stage.world.globex.slug}/"
    paths = ["servers/sky/", f"imports/{stage.imported}/", "servers/sky/tools/"]
    assert [eve.get(own + path).status_code for path in paths] == [404, 404, 404]
    assert eve.post(f"{own}keys/{stage.key}/revoke/").status_code == 404


def test_strangers_are_sent_to_sign_in_and_back(stage: Stage, client: Client) -> None:
    answer = client.get(stage.base + "keys/")
    assert answer["Location"] == f"/accounts/login/?next={stage.base}keys/"


def test_viewers_are_offered_nothing_they_may_not_do(stage: Stage, client_of: Callable[..., Client]) -> None:
    bob = client_of(stage.world.bob)
    pages = [
        "",
        "servers/",
        "servers/sky/",
        "servers/sky/tools/",
        "servers/sky/versions/",
        "servers/sky/secrets/",
    ]
    text = "".join(bob.get(stage.base + page).content.decode() for page in pages)
    for offer in (
        "New server",
        "New HTTP tool",
        "Publish…",
        "Disable<",
        "Set the secret",
        "API keys<",
        "Audit log<",
    ):
        assert offer not in text


@pytest.mark.parametrize("method", ["settings/", "servers/sky/settings/", "servers/sky/versions/"])
def test_viewers_see_the_form_but_may_not_send_it(
    stage: Stage, client_of: Callable[..., Client], method: str
) -> None:
    bob = client_of(stage.world.bob)
    assert bob.post(stage.base + method, {"name": "x", "title": "x", "number": "9.9.9"}).status_code == 403
