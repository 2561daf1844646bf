from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.test import RequestFactory

from mooring.proxies import client_address

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


@pytest.mark.parametrize(
    ("trusted", "forwarded", "found"),
    [
        (0, "1.1.1.1", "10.0.0.5"),
        (1, "", "10.0.0.5"),
        (1, "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        (2, "6.6.6.6, 1.1.1.1, 2.2.2.2", "1.1.1.1"),
        (2, "6.6.6.6", "10.0.0.5"),
        (1, "x" * 500, "x" * 45),
    ],
)
def test_only_what_our_own_proxies_wrote_is_believed(
    settings: SettingsWrapper, trusted: int, forwarded: str, found: str
) -> None:
    settings.TRUSTED_PROXIES = trusted
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    assert client_address(RequestFactory().get("/", headers=headers, REMOTE_ADDR="10.0.0.5")) == found
