"""Headers that carry a credential, taken apart into a template and a secret."""

from __future__ import annotations

import pytest

from servers.manifests import Credential, credential_of


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("Authorization", "abc", ("Bearer {secret:token}", "token", "abc")),
        ("authorization ", " bearer  abc ", ("bearer {secret:token}", "token", "abc")),
        ("Authorization", "Basic YTpi", ("Basic {secret:token}", "token", "YTpi")),
        ("X-Api-Key", "abc def", ("{secret:x_api_key}", "x_api_key", "abc def")),
        ("1-2", "abc", ("{secret:key_1_2}", "key_1_2", "abc")),
        ("Authorization", "Bearer {secret:mine}", ("Bearer {secret:mine}", "", "")),
        ("X-Empty", "", ("", "", "")),
    ],
)
def test_a_credential_is_taken_out_of_its_header(
    header: str, value: str, expected: tuple[str, str, str]
) -> None:
    assert credential_of(header, value) == Credential(header.strip(), *expected)
