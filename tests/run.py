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
# A stuck test shows its stack; a stuck run ends. On two cores of its own a run takes a quarter of an hour at most.
STUCK_SECONDS, TOTAL_SECONDS = 180, 75 * 60
# Tests bring their own settings; and what hundreds of processes import is compiled once.
UNWANTED = ("DJANGO_SETTINGS_MODULE", "PYTHONDONTWRITEBYTECODE")
# Some arguments choose tests of one set-up only.
ENDS = {0: "passed", 5: "no such tests"}


def run(setup: str, arguments: list[str], seconds: float) -> int:
    """What pytest ended with. Raises `subprocess.TimeoutExpired`, once pytest has been stopped."""
    options = ["-q", "-o", f"faulthandler_timeout={STUCK_SECONDS}", "--durations=5", "--durations-min=5"]
    command = [sys.executable, "-m", "pytest", "--setup", setup, *PARALLEL, *options, *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        return process.wait(seconds)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        _stop(process)
        raise


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let pytest report and put its servers away; a second signal is not heard any more."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> int:
    # A shell starts what runs in its background deaf to the signal that ends pytest in order.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began, told = time.monotonic(), dict[str, str]()
    for setup in SETUPS:
        print(f"\n== {setup} ==", flush=True)
        started = time.monotonic()
        try:
            code = run(setup, sys.argv[1:], TOTAL_SECONDS - (started - began))
        except subprocess.TimeoutExpired:
            sys.exit(f"Stopped: the whole suite may take {TOTAL_SECONDS // 60} minutes.")
        except KeyboardInterrupt:
            sys.exit("Stopped.")
        told[setup] = f"{ENDS.get(code, 'FAILED')} in {time.monotonic() - started:.0f} s"
        print(f"== {setup}: {told[setup]} ==", flush=True)
    print(f"\n== {'; '.join(f'{setup} {end}' for setup, end in told.items())} ==", flush=True)
    return int(any("FAILED" in end for end in told.values()))


if __name__ == "__main__":
    sys.exit(main())
