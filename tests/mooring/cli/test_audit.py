"""`mooring audit verify`: the chain is checked, and what broke it is named."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

FORGERY = """UPDATE audit_auditevent SET actor_name = 'mallory'
    WHERE sequence = 2 AND tenant_id = (SELECT id FROM tenants_tenant WHERE slug = {})"""


def forge(environment: dict[str, str], tenant: str) -> None:
    """Change the tenant's second entry, as somebody can who owns the whole database and its triggers."""
    if "DATABASE_URL" not in environment:
        forge_in_file(Path(environment["MOORING_DATA_DIR"]) / "mooring.sqlite3", tenant)
        return
    admin = urlsplit(os.environ["MOORING_TEST_DATABASE"])._replace(
        path=urlsplit(environment["DATABASE_URL"]).path
    )
    with psycopg.connect(admin.geturl()) as connection:
        connection.execute("SET session_replication_role = replica")
        assert connection.execute(FORGERY.format("%s"), [tenant]).rowcount == 1


def forge_in_file(path: Path, tenant: str) -> None:
    connection = sqlite3.connect(path, timeout=20)
    with connection:
        (trigger,) = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'audit_refuses_update'"
        ).fetchone()
        connection.execute("DROP TRIGGER audit_refuses_update")
        assert connection.execute(FORGERY.format("?"), [tenant]).rowcount == 1
        connection.execute(trigger)
    connection.close()


@pytest.fixture(scope="module")
def deployed(installation):
    """An organisation with some entries in its log."""
    tenant = installation.tenant()
    installation.key(tenant)
    return tenant


def test_a_whole_log_is_said_to_be_whole(installation, deployed):
    count = len(installation.json("audit", "--tenant", deployed))
    assert count >= 2
    assert (
        installation.ok("audit", "verify", "--tenant", deployed) == f"{deployed}: {count} entries, whole.\n"
    )
    (row,) = installation.json("audit", "verify", "--tenant", deployed)
    assert row == {"tenant": deployed, "entries": count, "first_broken": None}


def test_a_changed_entry_is_named_and_ends_with_one(installation):
    tenant = installation.tenant()
    installation.key(tenant)
    forge(installation.environment, tenant)
    done = installation.run("audit", "verify", "--tenant", tenant)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{tenant}: entry 2 does not follow" in done.stderr
    done = installation.run("audit", "verify", "--tenant", tenant, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)[0]["first_broken"] == 2
    every = {
        row["tenant"]: row["first_broken"]
        for row in json.loads(installation.run("audit", "verify", "--json").stdout)
    }
    assert every[tenant] == 2


def test_all_organisations_are_checked_when_none_is_named(installation, deployed):
    rows = json.loads(installation.run("audit", "verify", "--json").stdout)
    assert {"tenant": deployed, "first_broken": None}.items() <= next(
        row for row in rows if row["tenant"] == deployed
    ).items()


def test_logs_are_verified_on_the_machine_alone(installation):
    assert "on the machine itself" in installation.refused("audit", "verify", key="moor_x", code=2)
    assert "no organisation" in installation.refused("audit", "verify", "--tenant", "nobody")
