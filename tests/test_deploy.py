"""What deploy/ holds works: the linter finds nothing here and finds what is wrong elsewhere; the roles are right."""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml

from tests import deploy_lint
from tests.services import postgres, postgres_programs

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
COMPOSE = (ROOT / "deploy" / "compose.yaml").read_text()


def test_the_deploy_files_pass_their_linter() -> None:
    assert list(deploy_lint.findings()) == []


@pytest.mark.parametrize(
    ("good", "bad", "sentence"),
    [
        ("USER 10001:10001", "USER root", "runs as root"),
        ("--require-hashes ", "", "--require-hashes"),
        ("/healthz", "/", "No health check"),
        ("python:3.13-slim-bookworm AS", "python:latest AS", "no fixed tag"),
        ("COPY tenants tenants", "COPY tenant tenant", "not in the repository"),
        ('ENTRYPOINT ["mooring"]', "ENTRYPOINT mooring", "signals"),
        ("PORT=8000", "PORT=8000 MOORING_SECRET_KEY=x", "stay in the image"),
        ("COPY pyproject.toml", "ADD pyproject.toml", "ADD"),
        ("bubblewrap libseccomp2", "bubblewrap", "cannot make sandboxes"),
        (" \\\n    && rm -rf /var/lib/apt/lists/*", "", "the lists stay"),
    ],
)
def test_the_linter_sees_a_bad_dockerfile(good: str, bad: str, sentence: str) -> None:
    assert good in DOCKERFILE
    found = [text for _, text in deploy_lint.check_dockerfile(DOCKERFILE.replace(good, bad))]
    assert any(sentence in text for text in found)


@pytest.mark.parametrize(
    ("good", "bad", "sentence"),
    [
        ("postgres:17-bookworm", "postgres", "no fixed tag"),
        ("127.0.0.1:8000}:8080", "8000}:8080", "open to the network"),
        ("MOORING_TRUSTED_PROXIES:", "MOORING_TRUST:", "read by nobody"),
        ("  journal:\n  dashboard", "  dashboard", "not declared"),
        ("condition: service_healthy", "restart: true", "before"),
        ("  beat:\n", "  clock:\n", "beat is missing"),
        ("  runner:\n    <<", "  walker:\n    <<", "runner is missing"),
        ("- KILL #", "- SYS_ADMIN #", "other capabilities"),
        ("      - KILL # end what runs as somebody else\n", "", "other capabilities"),
        ('cap_drop: ["ALL"]\n  security_opt', "security_opt", "keeps capabilities"),
        ('command: ["beat"]\n', 'command: ["beat"]\n    cap_add: ["KILL"]\n', "only the runner needs"),
        ('command: ["beat"]\n', 'command: ["beat"]\n    user: "0:0"\n', "only the runner needs"),
        ('MOORING_RUNNER_GROUP: "10001"', "MOORING_SECRET_KEY: ${X}", "none of its business"),
        ('"runner:/run/mooring", "artifacts', '"runner:/run/other", "artifacts', "socket is not at"),
        ('volumes: ["runner:/run/mooring:ro"]', "volumes: []", "worker: the runner's socket"),
    ],
)
def test_the_linter_sees_a_bad_composition(good: str, bad: str, sentence: str) -> None:
    assert good in COMPOSE
    found = list(deploy_lint.check_compose(yaml.safe_load(COMPOSE.replace(good, bad))))
    assert any(sentence in text for text in found)


def test_every_setting_is_in_the_operators_table_and_every_row_is_a_setting() -> None:
    rows = set(re.findall(r"^\| `([A-Z_]+)`", (ROOT / "docs" / "operate.md").read_text(), re.M))
    # The CLI's own, and what bootstrap and the tests read.
    elsewhere = {"MOORING_KEY", "MOORING_PASSWORD", "MOORING_VENV", "MOORING_SOAK"}
    assert rows - elsewhere == deploy_lint.settings_read() | deploy_lint.runner_read()


# ---- the roles ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A PostgreSQL of its own, since roles belong to the whole server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATABASE_URL", raising=False)
        with postgres() as url:
            yield url


def psql() -> str:
    beside = postgres_programs() / "psql"
    return str(beside) if beside.exists() else str(shutil.which("psql"))


def make_roles(admin: str, passwords: dict[str, str]) -> None:
    flags = [part for name, value in passwords.items() for part in ("-v", f"{name}_password={value}")]
    subprocess.run([psql(), "-q", *flags, "-f", ROOT / "deploy" / "postgres-roles.sql", admin], check=True)


def test_the_three_roles_suffice_and_hold_no_more_than_they_need(cluster: str, tmp_path: Path) -> None:
    passwords = {name: secrets.token_urlsafe(12) for name in ("owner", "app", "system")}
    with psycopg.connect(cluster, autocommit=True) as admin:
        admin.execute("CREATE DATABASE mooring")
    address = urlsplit(cluster)._replace(path="/mooring")
    for _ in range(2):  # the second time it changes nothing
        make_roles(address.geturl(), passwords)

    def url(login: str, password: str) -> str:
        return f"postgresql://{login}:{password}@127.0.0.1:{address.port}/mooring"

    environment = os.environ | {
        "DATABASE_URL": url("mooring_app_login", passwords["app"]),
        "DATABASE_SYSTEM_URL": url("mooring_system_login", passwords["system"]),
        "DATABASE_OWNER_URL": url("mooring_owner", passwords["owner"]),
        "REDIS_URL": "redis://127.0.0.1:1",
        "MOORING_DATA_DIR": str(tmp_path),
        "MOORING_SECRET_KEY": secrets.token_urlsafe(48),
        "MOORING_KEY_PEPPER": secrets.token_urlsafe(48),
        "MOORING_ENCRYPTION_KEYS": "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "MOORING_URL": "https://mooring.example",
        "MOORING_HOSTS": "mooring.example",
        "MOORING_TRUSTED_PROXIES": "1",
        "MOORING_SSL_REDIRECT": "1",
    }
    migrate = ["-m", "mooring.cli.running", "migrate"]
    for command in (migrate, ["manage.py", "check", "--deploy", "--fail-level", "WARNING"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    with psycopg.connect(environment["DATABASE_URL"]) as app:
        assert app.execute("SELECT count(*) FROM tenants_membership").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("CREATE TABLE public.mine (id int)")
    with psycopg.connect(cluster) as admin:
        powers = admin.execute(
            "SELECT bool_or(rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication) "
            "FROM pg_roles WHERE rolname LIKE 'mooring_%'"
        )
        assert powers.fetchone() == (False,)
