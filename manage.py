#!/usr/bin/env python
"""Django's command line, usable from a checkout before anything is installed."""

import os
import sys
from pathlib import Path


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mooring.settings")
    sys.path.insert(1, str(Path(__file__).resolve().parent / "platform"))
    from django.core.management import execute_from_command_line  # after the path above is set

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
