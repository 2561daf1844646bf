"""The one way in: `python -I FOLDER PROGRAM …`, where FOLDER holds this package as `_mooring`."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    del sys.path[0]  # the folder of this package is no business of what it runs
    program, *arguments = sys.argv[1:]
    match program:
        case "serve":
            from . import bootstrap

            bootstrap.main(arguments[0], *map(Path, arguments[1:]))
        case "read":
            from . import archives, parcels
            from .bounds import Refusal

            try:
                files = archives.read(sys.stdin.buffer.read(), *arguments)
            except Refusal as refusal:
                parcels.refuse(sys.stdout.buffer, str(refusal))
            else:
                parcels.write(sys.stdout.buffer, list(files.items()))
        case "survey":
            from . import survey

            survey.main(sys.stdin.buffer, sys.stdout.buffer)
        case "install":
            from . import installing

            installing.main(arguments, sys.stdout.buffer)
        case "forward":
            from . import forwarding

            forwarding.run(arguments)
