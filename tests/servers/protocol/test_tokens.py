from __future__ import annotations

import contextlib
import time
import uuid

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from servers.protocol.capabilities import from_bits, to_bits
from servers.protocol.tokens import CURSOR_SECONDS, ExpiredToken, InvalidToken, Sealer

SERVER = uuid.UUID(int=7)


def sealed(sealer: Sealer, client: str = "c 1") -> str:
    token, _ = sealer.new_session(
        revision="2025-11-25", capabilities=511, principal="key:" + "f" * 32, server=SERVER, client=client
    )
    return token


def test_a_session_token_is_short_and_opens_to_what_was_sealed() -> None:
    token = sealed(Sealer("s"), "ü" * 500)
    assert len(token) <= 512
    assert Sealer("s").open_session(token).server == SERVER


def new_cursor(sealer: Sealer) -> str:
    return sealer.new_cursor(
        server=SERVER, version="1.0.0", kind="tools", offset=100, principal="key:" + "f" * 32
    )


@pytest.mark.parametrize("position", [0, 20, -5])
def test_a_changed_token_does_not_open(position: int) -> None:
    token = list(sealed(Sealer("s")))
    token[position] = "A" if token[position] != "A" else "B"
    with pytest.raises(InvalidToken):
        Sealer("s").open_session("".join(token))


def test_tokens_do_not_open_elsewhere_or_for_another_purpose() -> None:
    with pytest.raises(InvalidToken):
        Sealer("other").open_session(sealed(Sealer("s")))
    cursor = new_cursor(Sealer("s"))
    with pytest.raises(InvalidToken):
        Sealer("s").open_session(cursor)
    assert Sealer("s").open_cursor(cursor).offset == 100


def test_a_cursor_lasts_an_hour_and_is_told_from_one_that_never_was_ours() -> None:
    for age, error in ((CURSOR_SECONDS + 2, ExpiredToken), (CURSOR_SECONDS - 60, None)):
        with time_machine.travel(time.time() - age):
            token = new_cursor(Sealer("s"))
        with pytest.raises(error) if error else contextlib.nullcontext():
            assert Sealer("s").open_cursor(token).principal == "key:" + "f" * 32


@given(st.text(max_size=600))
def test_any_text_is_refused_as_a_token(text: str) -> None:
    with pytest.raises(InvalidToken):
        Sealer("s").open_cursor(text)


def test_known_client_capabilities_survive_as_bits() -> None:
    capabilities = {"sampling": {"tools": {}}, "elicitation": {"form": {}, "url": {}}, "unknown": {}}
    assert from_bits(to_bits(capabilities)) == {
        "sampling": {"tools": {}},
        "elicitation": {"form": {}, "url": {}},
    }
