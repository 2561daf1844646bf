"""Everything that is checked without running the product: `python tests/lint.py`.

Runs all checks, prints each one's name, and what the failing ones say. Exits with an error when one failed.
"""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import environment  # noqa: E402  # run as a file, so the root has to be put on the path first

BIN = Path(sys.executable).parent
# Checks stand in the order of their duration, slowest first.
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    check: Check
    code: int
    output: str
    seconds: float


def checks(folder: Path) -> list[Check]:
    python, embedded = sys.executable, {"MOORING_DATA_DIR": str(folder / "embedded")}
    return [
        Check("mypy", (str(BIN / "mypy"),), embedded),
        Check("import-linter", (str(BIN / "lint-imports"), "--no-cache"), embedded),
        Check(
            "check --deploy",
            (python, "manage.py", "check", "--deploy", "--fail-level", "WARNING"),
            production_like(folder),
        ),
        Check(
            "makemigrations --check",
            (python, "manage.py", "makemigrations", "--check", "--dry-run"),
            embedded,
        ),
        Check("djlint", (str(BIN / "djlint"), "templates", "--lint", "--quiet")),
        Check("ruff check", (str(BIN / "ruff"), "check", ".")),
        Check("ruff format", (str(BIN / "ruff"), "format", "--check", ".")),
        Check("deploy files", (python, "tests/deploy_lint.py")),
    ]


def production_like(folder: Path) -> dict[str, str]:
    """What production sets, with a real database, since the checks ask it what its roles may."""
    names = ("DATABASE_URL", "DATABASE_SYSTEM_URL", "DATABASE_OWNER_URL", "REDIS_URL")
    return {name: os.environ[name] for name in names} | {
        "MOORING_DATA_DIR": str(folder / "production"),
        "MOORING_URL": "https://mooring.example",
        "MOORING_SECRET_KEY": secrets.token_urlsafe(48),
        "MOORING_KEY_PEPPER": secrets.token_urlsafe(48),
        "MOORING_ENCRYPTION_KEYS": "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "MOORING_TRUSTED_PROXIES": "1",
        "MOORING_SSL_REDIRECT": "1",
        "MOORING_SMTP_HOST": "localhost",
    }


def clean_environment() -> dict[str, str]:
    """The caller's environment without settings of ours."""
    ours = ("MOORING_", "DATABASE_", "REDIS_URL", "SENTRY_DSN", "PORT", "DJANGO_SETTINGS_MODULE")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def run(check: Check) -> Result:
    started = time.monotonic()
    done = subprocess.run(
        check.command,
        cwd=ROOT,
        env=clean_environment() | check.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Result(check, done.returncode, done.stdout, time.monotonic() - started)


def report(result: Result) -> None:
    mark = "ok    " if result.code == 0 else "FAILED"
    print(f"{mark} {result.check.name} ({result.seconds:.1f} s)", flush=True)
    if result.code:
        print("".join(f"    {line}\n" for line in result.output.splitlines()), flush=True)


def main() -> int:
    failed = 0
    with environment.prepared("production"), ThreadPoolExecutor(AT_ONCE) as pool:
        environment.enter_worker("lint")
        environment.create_database()
        for result in pool.map(run, checks(Path(os.environ["MOORING_TEST_DIR"]))):
            report(result)
            failed += result.code != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
