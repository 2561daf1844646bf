"""The environment variables of a test run, set before Django reads its settings.

The first process of a run (`prepared`) makes what all share; each xdist worker (`enter_worker`) gets a data
directory and a database of its own. Processes that tests start inherit all of it.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tests.services import services

SETUPS = ("embedded", "production")
# In a worker's data directory: its SQLite database as it was before the first test.
MIGRATED = "migrated.sqlite3"
_OURS = ("MOORING_", "DATABASE_", "REDIS_URL", "SENTRY_DSN", "PORT")
_KEPT = ("MOORING_SOAK", "MOORING_TEST_")
_LOGINS = {
    "OWNER": "CREATEDB CREATEROLE IN ROLE mooring_system",
    "APP": "IN ROLE mooring_app",
    "SYSTEM": "IN ROLE mooring_system",
}


@contextmanager
def prepared(setup: str) -> Iterator[None]:
    """Everything one run shares: a folder, and in production the servers and their three login roles."""
    given = {name: os.environ.get(name, "") for name in ("DATABASE_URL", "REDIS_URL")}
    _forget_our_variables()
    folder = Path(tempfile.mkdtemp(prefix="mooring-test-"))
    os.environ |= {
        "MOORING_TEST_SETUP": setup,
        "MOORING_TEST_DIR": str(folder),
        "MOORING_TEST_RUN": secrets.token_hex(4),
    }
    try:
        if setup == "embedded":
            yield
        else:
            os.environ |= {name: value for name, value in given.items() if value}
            yield from _with_services()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _forget_our_variables() -> None:
    """A developer's own settings must not steer the tests."""
    for name in list(os.environ):
        if name.startswith(_OURS) and not name.startswith(_KEPT):
            del os.environ[name]


def _with_services() -> Iterator[None]:
    with services() as found:
        os.environ |= {
            "MOORING_TEST_DATABASE": found.database_url,
            "MOORING_TEST_REDIS": found.redis_url,
            "MOORING_SECRET_KEY": secrets.token_urlsafe(48),
            "MOORING_KEY_PEPPER": secrets.token_urlsafe(48),
            "MOORING_ENCRYPTION_KEYS": "test:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        }
        with _login_roles(found.database_url):
            yield


@contextmanager
def _login_roles(admin_url: str) -> Iterator[None]:
    """Roles are a cluster's, not a database's, so their names carry the run's and they are dropped again."""
    run = os.environ["MOORING_TEST_RUN"]
    passwords = {kind: secrets.token_urlsafe(16) for kind in _LOGINS}
    with psycopg.connect(admin_url, autocommit=True) as admin:
        for group in ("mooring_app", "mooring_system"):
            if not admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [group]).rowcount:
                admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(group)))
        for kind, rights in _LOGINS.items():
            admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} " + rights).format(
                    sql.Identifier(_login(kind, run)), sql.Literal(passwords[kind])
                )
            )
    os.environ |= {f"MOORING_TEST_PASSWORD_{kind}": value for kind, value in passwords.items()}
    try:
        yield
    finally:
        with psycopg.connect(admin_url, autocommit=True) as admin:
            for (name,) in admin.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s", [f"mooring_{run}_%"]
            ):
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            for kind in _LOGINS:
                admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(_login(kind, run))))


def _login(kind: str, run: str) -> str:
    return f"mooring_{kind.lower()}_{run}"


def enter_worker(worker: str) -> None:
    """Point this process at its own data directory and, in production, its own database."""
    folder = Path(os.environ["MOORING_TEST_DIR"]) / worker
    # WhiteNoise warns about a missing folder of collected files.
    (folder / "static").mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "MOORING_DATA_DIR": str(folder),
        "MOORING_URL": "http://testserver",
        "MOORING_HOSTS": "testserver,localhost,127.0.0.1",
        "MOORING_EGRESS_ALLOW": "127.0.0.0/8",
        "MOORING_LOG_LEVEL": "WARNING",
    }
    if os.environ["MOORING_TEST_SETUP"] == "production":
        os.environ |= _database_urls(worker) | {"REDIS_URL": _redis_url(worker)}


def _database_urls(worker: str) -> dict[str, str]:
    run, server = os.environ["MOORING_TEST_RUN"], urlsplit(os.environ["MOORING_TEST_DATABASE"])

    def url(kind: str) -> str:
        password = os.environ[f"MOORING_TEST_PASSWORD_{kind}"]
        address = f"{server.hostname}:{server.port or 5432}"
        return f"postgresql://{_login(kind, run)}:{password}@{address}/mooring_{run}_{worker}?{server.query}"

    return {
        "DATABASE_URL": url("APP"),
        "DATABASE_SYSTEM_URL": url("SYSTEM"),
        "DATABASE_OWNER_URL": url("OWNER"),
    }


def _redis_url(worker: str) -> str:
    """A numbered database for each worker, unless the given address already names one."""
    given = os.environ["MOORING_TEST_REDIS"].rstrip("/")
    number = int(worker.removeprefix("gw")) + 1 if worker.startswith("gw") else 0
    return given if urlsplit(given).path else f"{given}/{number}"


def create_database() -> None:
    """The worker's empty database, owned by the role that migrates it."""
    owner = urlsplit(os.environ["DATABASE_OWNER_URL"])
    server = owner._replace(path=urlsplit(os.environ["MOORING_TEST_DATABASE"]).path)
    with psycopg.connect(server.geturl(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(owner.path.lstrip("/"))))


def fill(folder: Path) -> None:
    """Give a data directory what it would else make at its first start, as all others here: it takes seconds."""
    ours = Path(os.environ["MOORING_DATA_DIR"])
    if folder == ours:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if os.environ["MOORING_TEST_SETUP"] == "embedded":
        shutil.copy(ours / MIGRATED, folder / "mooring.sqlite3")
    else:
        (folder / "static").symlink_to(ours / "static")
