"""Installs a locked set of wheels into a folder in memory and hands its files out. Runs nothing of what it installs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO

from . import forwarding, parcels

SITE = Path("/tmp/site")
# uv's own; nothing of an environment's behaviour.
_LEFT_OUT = {".lock"}


def main(command: list[str], out: IO[bytes]) -> None:
    """`command` installs into `SITE`; its own output goes to the log."""
    forwarding.begin()
    code = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    if code:
        sys.exit(code)
    paths = (path for path in SITE.rglob("*") if path.is_file() and not path.is_symlink())
    files = sorted((path.relative_to(SITE).as_posix(), path) for path in paths)
    parcels.write(out, [(name, path) for name, path in files if name not in _LEFT_OUT])
