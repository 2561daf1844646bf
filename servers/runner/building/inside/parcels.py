"""Files on their way through a pipe: one line of JSON, `[[path, size], …]`, then their contents end to end.

What comes out of a sandbox is a stranger's, so reading it checks every name and size anew. A line
`{"refused": "…"}` stands in place of the list when there is nothing to hand over, for a reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from .bounds import MIB, Bounds, Refusal
from .names import Names, shown

_LONGEST_LIST = 16 * MIB
_CHUNK = 256 * 1024


def write(out: IO[bytes], files: Sequence[tuple[str, bytes | Path]]) -> None:
    sizes = [
        [path, len(content) if isinstance(content, bytes) else content.stat().st_size]
        for path, content in files
    ]
    out.write(json.dumps(sizes).encode() + b"\n")
    for _, content in files:
        out.write(content if isinstance(content, bytes) else content.read_bytes())
    out.flush()


def refuse(out: IO[bytes], reason: str) -> None:
    out.write(json.dumps({"refused": reason}).encode() + b"\n")
    out.flush()


def read(source: IO[bytes], bounds: Bounds) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Each path with its pieces, which have to be taken before the next. Raises `Refusal`."""
    for path, size in _listed(source, bounds):
        yield path, _pieces(source, size)
    if source.read(1):
        raise Refusal("More came out of the sandbox than was announced.")


def _listed(source: IO[bytes], bounds: Bounds) -> list[tuple[str, int]]:
    line = source.readline(_LONGEST_LIST + 1)
    try:
        rows = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        rows = None
    if isinstance(rows, dict):
        raise Refusal(str(rows.get("refused", ""))[:2_000])
    if not isinstance(rows, list):
        raise Refusal("What came out of the sandbox cannot be read.")
    names, total, listed = Names(bounds), 0, []
    for row in rows:
        path, size = _row(row)
        total += size
        if size > bounds.one or total > bounds.total:
            raise Refusal(f"The files are too large at {shown(path)}: {bounds.total // MIB} MiB is the most.")
        listed.append((names.file(path), size))
    return listed


def _row(row: object) -> tuple[str, int]:
    match row:
        case [str(path), int(size)] if size >= 0 and not isinstance(size, bool):
            return path, size
        case _:
            raise Refusal("What came out of the sandbox cannot be read.")


def _pieces(source: IO[bytes], size: int) -> Iterator[bytes]:
    while size:
        piece = source.read(min(size, _CHUNK))
        if not piece:
            raise Refusal("What came out of the sandbox ends too early.")
        size -= len(piece)
        yield piece
