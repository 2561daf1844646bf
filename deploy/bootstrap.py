"""Make the environment in .venv from a hashed lock file; do nothing when its stamp matches.

    python3 deploy/bootstrap.py run|dev|bench

Needs only the standard library, so that it runs on a machine with nothing but Python.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("MOORING_VENV", ROOT / ".venv"))
# Each lock holds everything of those before it, so its stamp serves them too.
LOCKS = {"run": "run.txt", "dev": "dev.txt", "bench": "bench.txt"}


def stamp_of(lock: Path) -> str:
    seen = hashlib.sha256(lock.read_bytes() + (ROOT / "pyproject.toml").read_bytes())
    seen.update(f"{sys.version_info[:2]} {ROOT}".encode())
    return seen.hexdigest()


def is_installed(kind: str) -> bool:
    kinds = list(LOCKS)
    for name in kinds[kinds.index(kind) :]:
        stamp = VENV / f"{name}.stamp"
        if stamp.exists() and stamp.read_text() == stamp_of(ROOT / "deploy" / LOCKS[name]):
            return True
    return False


def install(kind: str) -> None:
    lock = ROOT / "deploy" / LOCKS[kind]
    python = VENV / "bin" / "python"
    print(f"Installing Mooring into {VENV} …", flush=True)
    if not python.exists() or made_by_other_python(python):
        venv.EnvBuilder(with_pip=True, clear=VENV.exists()).create(VENV)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)], check=True)
    (VENV / f"{kind}.stamp").write_text(stamp_of(lock))


def made_by_other_python(python: Path) -> bool:
    asked = subprocess.run(
        [str(python), "-c", "import sys; print(sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() != str(sys.version_info[:2])


def main() -> None:
    if sys.version_info < (3, 11):
        sys.exit(
            f"Mooring needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: make PYTHON=python3.13"
        )
    kind = sys.argv[1] if len(sys.argv) > 1 else "run"
    if not is_installed(kind):
        install(kind)


if __name__ == "__main__":
    main()
