"""What is known of artifacts beside what is in them: which era their server speaks, and when each was last wanted.

One small file for each, whose time is when it was wanted.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from servers.runner.engine import Era


class _Record(msgspec.Struct):
    """`by` is the artifact that stands in for it."""

    era: Era
    by: str = ""


_record = msgspec.json.Decoder(_Record)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Records below `folder`, by the digests of artifacts. Only the runner can write to it."""

    folder: Path

    def put(self, digest: str, era: Era, *, by: str = "") -> None:
        """From now on its era is known, and that another one is to be run where it is asked for."""
        descriptor, path = tempfile.mkstemp(dir=self.folder, prefix=".")
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(_Record(era, by)))
        os.replace(path, self.folder / digest)

    def digests(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if not path.name.startswith(".")]

    def stand_in(self, digest: str) -> str:
        """What is run in its place; empty where it is run itself."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return _record.decode((self.folder / digest).read_bytes()).by
        return ""

    def has(self, digest: str) -> bool:
        return (self.folder / digest).exists()

    def wanted(self, digest: str) -> Era | None:
        """Its era, if it is known; that it is wanted is noted."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            era = _record.decode((self.folder / digest).read_bytes()).era
            os.utime(self.folder / digest)
            return era
        return None

    def idle(self, digest: str) -> float:
        """Seconds since it was wanted; without an end where nothing is known."""
        try:
            return time.time() - (self.folder / digest).stat().st_mtime
        except OSError:
            return float("inf")

    def remove(self, digest: str) -> None:
        (self.folder / digest).unlink(missing_ok=True)
