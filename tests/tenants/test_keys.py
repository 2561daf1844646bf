from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenants.keys import digest_of, is_well_formed, new_key


def test_new_keys_are_well_formed_and_differ() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(is_well_formed(key) for key in keys)


def test_one_changed_character_breaks_the_checksum() -> None:
    key = new_key()
    for position in range(5, len(key)):
        other = "a" if key[position] != "a" else "b"
        assert not is_well_formed(key[:position] + other + key[position + 1 :])


@given(st.text(max_size=60))
def test_other_texts_are_no_keys(text: str) -> None:
    assert not is_well_formed(text)


def test_the_digest_is_keyed() -> None:
    key = new_key()
    assert digest_of(key) == digest_of(key)
    assert key not in digest_of(key)
