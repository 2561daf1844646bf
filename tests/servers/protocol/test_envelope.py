from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.protocol import envelope
from servers.protocol.errors import ProtocolError


def test_the_last_of_duplicate_keys_wins() -> None:
    read = envelope.read(b'{"jsonrpc":"2.0","id":1,"id":2,"method":"a","method":"b"}')
    assert (read.id, read.method) == (2, "b")


def test_64_levels_are_read_and_65_are_refused() -> None:
    def nested(levels: int) -> bytes:
        inner = b'{"a":' * (levels - 1) + b"1" + b"}" * (levels - 1)
        return b'{"jsonrpc":"2.0","id":1,"method":"x","params":' + inner + b"}"

    assert envelope.read(nested(64)).method == "x"
    with pytest.raises(ProtocolError) as refused:
        envelope.read(nested(65))
    assert refused.value.code == -32600


def test_brackets_in_texts_are_no_nesting() -> None:
    read = envelope.read(b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"' + b"[{" * 500 + b'"}}')
    assert read.is_request


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    envelope.readable_id(body)
    with contextlib.suppress(ProtocolError):
        envelope.read(body)
