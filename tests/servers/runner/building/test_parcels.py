"""What comes out of a sandbox is checked as if a stranger had sent it, since one has."""

from __future__ import annotations

import io
import json

import pytest

from servers.runner.building.inside import parcels
from servers.runner.building.inside.bounds import MIB, Bounds, Refusal

BOUNDS = Bounds(files=3, one=MIB, total=MIB, depth=3)


def read(raw: bytes) -> dict[str, bytes]:
    return {path: b"".join(pieces) for path, pieces in parcels.read(io.BytesIO(raw), BOUNDS)}


def listed(*rows: object) -> bytes:
    return json.dumps(rows).encode() + b"\n"


def test_files_come_out_as_they_went_in() -> None:
    files = {"a.py": b"x\ny", "b/c.bin": bytes(range(256)), "empty": b""}
    parcel = io.BytesIO()
    parcels.write(parcel, list(files.items()))
    assert read(parcel.getvalue()) == files


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no json\n",
        b"[" * 100_000 + b"\n",
        listed(["../a", 0]),
        listed(["/etc/passwd", 0]),
        listed(["a", 0], ["a", 0]),
        listed(["a", 0], ["a/b", 0]),
        listed(["a", -1]),
        listed(["a", True]),
        listed(["a", "1"]),
        listed(["a", 2 * MIB]),
        listed(["a", MIB], ["b", 1]),
        listed(*([str(number), 0] for number in range(4))),
        listed(["a", 5]) + b"1234",
        listed(["a", 1]) + b"12",
    ],
)
def test_a_parcel_that_breaks_a_rule_is_refused(raw: bytes) -> None:
    with pytest.raises(Refusal):
        read(raw)


def test_a_refusal_inside_is_told_outside() -> None:
    parcel = io.BytesIO()
    parcels.refuse(parcel, "It is too large.")
    with pytest.raises(Refusal, match="too large"):
        read(parcel.getvalue())
