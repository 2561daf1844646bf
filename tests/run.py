"""Run the whole suite over both set-ups: `python tests/run.py [arguments for pytest]`.

Exits with an error when either run failed. PostgreSQL and Redis are found or started by the tests themselves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETUPS = ("embedded", "production")
# Files stay whole, since those that start real processes share them; the slow ones go first (tests/conftest.py), or
# one worker would be left with them at the end.
PARALLEL = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
# A stuck test shows its stack; a stuck run ends. Half an hour on two idle cores is usual; a busy machine gets more.
STUCK_SECONDS, TOTAL_SECONDS = 180, 75 * 60
# Tests bring their own settings; and what hundreds of processes import is compiled once.
UNWANTED = ("DJANGO_SETTINGS_MODULE", "PYTHONDONTWRITEBYTECODE")


def run(setup: str, arguments: list[str], seconds: float) -> int:
    options = ["-q", "-o", f"faulthandler_timeout={STUCK_SECONDS}", "--durations=5", "--durations-min=5"]
    command = [sys.executable, "-m", "pytest", "--setup", setup, *PARALLEL, *options, *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"Stopped: the whole suite may take {TOTAL_SECONDS // 60} minutes.", flush=True)
        return _stopped(process)
    except KeyboardInterrupt:
        return _stopped(process)


def _stopped(process: subprocess.Popen[bytes]) -> int:
    """Let pytest report and put its servers away; a second signal is not heard any more."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return 1


def main() -> int:
    # A shell starts what runs in its background deaf to the signal that ends pytest in order.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began, results = time.monotonic(), {}
    for setup in SETUPS:
        print(f"\n== {setup} ==", flush=True)
        started = time.monotonic()
        code = run(setup, sys.argv[1:], TOTAL_SECONDS - (started - began))
        results[setup] = code
        print(
            f"== {setup}: {'passed' if code == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s ==",
            flush=True,
        )
    return max(abs(code) for code in results.values())


if __name__ == "__main__":
    sys.exit(main())
