"""The `mooring` command. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import sys


def main() -> None:
    from mooring.cli.app import run  # typer is needed by the command alone, not by who imports this package

    sys.exit(run(sys.argv[1:]))
