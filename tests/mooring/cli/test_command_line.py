from __future__ import annotations

import json
import subprocess
import sys

COMMANDS = (
    "up serve worker beat runner migrate deploy call versions rollback calls audit tenants keys servers tools import"
).split()


def test_help_names_every_command_and_loads_no_django(installation):
    text = installation.ok("--help")
    assert all(f" {command} " in text for command in COMMANDS)
    loaded = "import sys, mooring.cli.app as a; a.run(['--help']); assert 'django' not in sys.modules"
    subprocess.run([sys.executable, "-c", loaded], check=True, stdout=subprocess.DEVNULL)


def test_the_version_is_printed(installation):
    assert installation.ok("--version").strip().count(".") == 2


def test_wrong_command_lines_are_one_line_and_two(installation):
    for arguments in (
        ["bogus"],
        ["deploy"],
        ["versions", "no-slash"],
        ["call", "a/b", "c", "{"],
        ["call", "a/b", "c", "[]"],
        ["call", "a/b", "c", "--revision", "1999-01-01"],
        ["keys", "create", "--tenant", "a"],
        ["keys", "create", "--tenant", "a", "--name", "x", "--days", "0"],
        ["servers", "list"],
        ["deploy", "-", "--tenant", "a", "--server", "b", "--secret", "novalue"],
    ):
        assert installation.refused(*arguments, code=2).startswith("mooring: "), arguments


def test_a_group_without_a_command_shows_its_help(installation):
    done = installation.run("keys")
    assert (done.returncode, "create" in done.stdout, done.stderr) == (2, True, "")


def test_refusals_are_one_line_and_one(installation, tmp_path):
    assert "no organisation" in installation.refused("servers", "list", "--tenant", "nobody")
    assert "No such file" in installation.refused("import", "check", str(tmp_path / "none.yaml"))


def test_a_refusal_is_json_when_json_is_asked_for(installation):
    done = installation.run("servers", "list", "--tenant", "nobody", "--json")
    assert done.returncode == 1
    assert json.loads(done.stderr)["error"]["code"] == "not_found"


def test_a_database_that_was_never_set_up_is_said_so(installation, tmp_path):
    if "DATABASE_URL" in installation.environment:
        return
    fresh = installation.but(MOORING_DATA_DIR=str(tmp_path))
    assert "mooring migrate" in fresh.refused("servers", "list", "--tenant", "acme")


def test_the_owner_can_sign_in_and_a_taken_name_is_refused(installation):
    tenant = installation.tenant()
    again = ["tenants", "create", tenant, "--owner", "x@example.com", "--password", "correct horse battery"]
    assert "taken" in installation.refused(*again)
    other = f"{tenant}-2"
    made = installation.json(
        "tenants", "create", other, "--owner", f"{tenant}@example.com", "--password", "x"
    )
    assert (made["slug"], made["owner_is_new"]) == (other, False)


def test_organisations_are_made_on_the_machine_alone(installation):
    arguments = ["tenants", "create", "x", "--owner", "x@example.com", "--password", "p"]
    assert "on the machine itself" in installation.refused(*arguments, key="moor_x", code=2)
