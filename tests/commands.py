"""The `mooring` command without the second that its imports take: a process that has done them forks for each.

With MOORING_SOAK each command starts as people start it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

MOORING = str(Path(sys.executable).parent / "mooring")
SECONDS = 120
# What commands import and what reads no settings, so that each command still reads its own.
_PRELOADED = (
    "tests.commands",
    "mooring.cli.app",
    "mooring.egress.session",
    "servers.runtimes.remote.client",
    "servers.runtimes.code.configured",
    "cryptography.hazmat.primitives.ciphers.aead",
    "django.core.management",
    "django.db.backends.sqlite3.base",
    "django.db.models",
    "django.db.migrations",
    "django.http",
    "django.urls",
    "django.views.generic",
    "jsonschema_rs",
    "msgspec.yaml",
    "psycopg_pool",
    "prometheus_client",
    "pydantic.type_adapter",
    "structlog",
    "yaml",
)
_forking = get_context("forkserver")
_forking.set_forkserver_preload(list(_PRELOADED))


def run(*arguments: str, environment: Mapping[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    """One command. Raises `subprocess.TimeoutExpired` when it does not end."""
    if "MOORING_SOAK" in os.environ:
        return subprocess.run(
            [MOORING, *arguments],
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    with TemporaryDirectory(prefix="mooring-command-") as name:
        folder = Path(name)
        for number, text in enumerate((stdin, "", "")):
            (folder / str(number)).write_text(text)
        process = _forking.Process(target=_become, args=(arguments, dict(environment), folder, Path.cwd()))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([MOORING, *arguments], SECONDS)
        printed, said = ((folder / number).read_text() for number in "12")
        return subprocess.CompletedProcess([MOORING, *arguments], process.exitcode, printed, said)


def _become(arguments: tuple[str, ...], environment: dict[str, str], files: Path, folder: Path) -> None:
    """Be the command: the standard streams are files named by their numbers."""
    for number in range(3):
        opened = os.open(files / str(number), os.O_RDWR)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115  # until it ends
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [MOORING, *arguments]
    from mooring.cli import main  # what it imports reads the environment

    main()
