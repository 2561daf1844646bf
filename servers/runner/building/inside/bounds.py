"""How large an upload, and whatever a sandbox hands back, may be."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB = 2**10, 2**20


class Refusal(ValueError):
    """What was handed in is not accepted; the message is a sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Counts and bytes. `folds` refuses names that differ in case only, which some file systems cannot hold."""

    files: int
    one: int
    total: int
    depth: int
    folds: bool = True


UPLOAD = Bounds(files=2_000, one=10 * MIB, total=50 * MIB, depth=12)
# Packages of other people: nobody who uploads can mend their names.
ENVIRONMENT = Bounds(files=40_000, one=200 * MIB, total=300 * MIB, depth=40, folds=False)
PACKED = 20 * MIB
# How many times its own size an archive may hold; small ones may hold more.
RATIO, SMALL = 100, 4 * KIB
PART_BYTES, PATH_BYTES = 200, 1_000
