"""From nothing to a called tool, as scripts do it: on the data directory and through the API."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.mooring.cli.conftest import ECHO

REVISIONS = ("2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
PETS: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Pets", "version": "1"},
    "servers": [{"url": "https://pets.example/v1"}],
    "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    "security": [{"token": []}],
    "paths": {
        "/pets": {"get": {"operationId": "listPets", "summary": "All pets", "responses": {}}},
    },
}


@pytest.fixture(scope="module", params=["local", "remote"])
def place(request, installation):
    """An organisation: its name, and the key commands go through, or none. Each test has its own server in it."""
    tenant = installation.tenant()
    return tenant, installation.key(tenant) if request.param == "remote" else ""


def test_a_manifest_is_deployed_called_changed_and_rolled_back(installation, place, echo_file):
    tenant, key = place
    deploy = ["deploy", str(echo_file), "--tenant", tenant, "--server", "echo"]
    printed = installation.ok(*deploy, "--public", key=key)
    assert printed.splitlines()[-1] == f"{installation.origin}/t/{tenant}/echo/mcp"

    assert installation.ok("call", f"{tenant}/echo", "hello", '{"name": "Ada"}') == "Hello Ada\n"

    again = installation.json(*deploy, key=key)
    assert (again["version"], again["is_new_version"]) == ("1.0.0", False)

    echo_file.write_text(echo_file.read_text().replace("Hello {name}", "Good day, {name}"))
    changed = installation.json(*deploy, key=key)
    assert changed["is_new_version"] is True
    versions = installation.json("versions", f"{tenant}/echo", key=key)
    assert [(row["number"], row["channels"]) for row in versions] == [
        (changed["version"], ["live"]),
        ("1.0.0", []),
    ]
    assert "serves 1.0.0 now" in installation.ok("rollback", f"{tenant}/echo", "1.0.0", key=key)
    assert _live(installation, place) == "1.0.0"
    # The draft is the newer version still: deploying it serves that one, without making a third.
    assert installation.json(*deploy, key=key)["is_new_version"] is False
    assert _live(installation, place) == changed["version"]
    tools = installation.json("tools", "list", f"{tenant}/echo", key=key)
    assert [tool["name"] for tool in tools] == ["echo", "hello"]


def _live(installation, place):
    tenant, key = place
    rows = installation.json("servers", "list", "--tenant", tenant, key=key)
    return next(row["live"] for row in rows if row["slug"] == "echo")


def test_an_openapi_document_is_deployed_with_its_base_url_and_secrets(installation, place, tmp_path):
    tenant, key = place
    path = tmp_path / "pets.json"
    path.write_text(json.dumps(PETS))
    deploy = [
        "deploy",
        str(path),
        "--tenant",
        tenant,
        "--server",
        "pets",
        "--base-url",
        "https://two.example",
    ]
    first = installation.json(*deploy, key=key)
    assert (first["tools"], len(first["missing_secrets"])) == (1, 1)
    name = first["missing_secrets"][0]
    printed = installation.ok(*deploy, key=key)
    assert f"Secrets without a value: {name}" in printed
    assert printed.splitlines()[-1] == first["endpoint"]
    second = installation.run(*deploy, "--secret", f"{name}=hunter2-hunter2", key=key)
    assert second.returncode == 0
    assert "hunter2" not in second.stdout + second.stderr
    assert installation.json(*deploy, key=key)["missing_secrets"] == []


def test_an_openapi_document_replaces_the_tools_of_a_server_and_keeps_the_rest(installation, place, tmp_path):
    tenant, key = place
    rest = {
        "resources": [{"name": "rules", "uri": "pets://rules", "text": "Be kind."}],
        "prompts": [{"name": "feed", "messages": [{"role": "user", "text": "Feed it."}]}],
        "upstreams": {
            "main": {"url": "{far}/mcp", "headers": {"Authorization": "Bearer {secret:far_token}"}},
        },
    }
    echo = {"name": "echo", "input_schema": {"type": "object"}, "static": {"kind": "echo"}}
    whole = {
        "mooring": 1,
        "server": {"title": "Zoo", "instructions": "Mind the lions."},
        "variables": {"far": {"default": "https://far.example"}, "unused": {"default": "x"}},
        "secrets": {"far_token": {"description": "For the far one."}},
        "tools": [echo],
    } | rest
    deploy = ["--tenant", tenant, "--server", "zoo"]
    for name, document in (("whole.json", whole), ("pets.json", PETS)):
        (tmp_path / name).write_text(json.dumps(document))
        installation.ok("deploy", str(tmp_path / name), *deploy, key=key)

    served = _published(installation, tenant, "zoo")
    assert [tool["name"] for tool in served["tools"]] == ["listPets"]
    assert {name: served[name] for name in ("server", *rest)} == {"server": whole["server"], **rest}
    assert set(served["variables"]) == {"base_url", "far"}
    assert served["secrets"].keys() > {"far_token"}

    installation.ok("deploy", str(tmp_path / "whole.json"), *deploy, key=key)
    assert _published(installation, tenant, "zoo") == whole  # a manifest is the whole server


def _published(installation, tenant, slug):
    """The manifest of the newest version, over the REST API."""
    headers = {"Authorization": f"Bearer {installation.key(tenant)}"}
    rows = _got(f"{installation.origin}/api/v1/servers/{slug}/versions", headers)["data"]
    newest = f"{installation.origin}/api/v1/servers/{slug}/versions/{rows[0]['number']}"
    return _got(newest, headers)["manifest"]


def _got(url, headers):
    with urlopen(Request(url, headers=headers), timeout=30) as answer:
        return json.load(answer)


def test_standard_input_is_deployed(installation, place, echo_file):
    tenant, key = place
    deploy = ["deploy", "-", "--tenant", tenant, "--server", "piped"]
    printed = installation.ok(*deploy, key=key, stdin=echo_file.read_text())
    assert printed.splitlines()[-1].endswith(f"/t/{tenant}/piped/mcp")


def test_a_broken_document_changes_nothing_and_says_why(installation, place, tmp_path):
    tenant, key = place
    for text in ("hello: world", "swagger: '2.0'", "mooring: 1\ntools: 3", "a: ["):
        path = tmp_path / "broken.yaml"
        path.write_text(text)
        deploy = ["deploy", str(path), "--tenant", tenant, "--server", "none"]
        assert len(installation.refused(*deploy, key=key)) > 30
    assert "none" not in installation.ok("servers", "list", "--tenant", tenant, key=key)


def test_keys_are_made_listed_and_revoked(installation, place, echo_file):
    tenant, key = place
    installation.ok("deploy", str(echo_file), "--tenant", tenant, "--server", "echo", key=key)
    made = installation.json(
        "keys", "create", "--tenant", tenant, "--name", "ci", "--server", "echo", "--days", "7", key=key
    )
    assert made["servers"] == ["echo"]
    assert (
        installation.ok("call", f"{tenant}/echo", "hello", '{"name": "Ada"}', key=made["secret"])
        == "Hello Ada\n"
    )
    assert "Revoked" in installation.ok("keys", "revoke", made["id"], "--tenant", tenant, key=key)
    states = {
        row["id"]: row["state"] for row in installation.json("keys", "list", "--tenant", tenant, key=key)
    }
    assert states[made["id"]] == "revoked"
    assert "no such key" in installation.refused(
        "keys", "revoke", "moor_nothing", "--tenant", tenant, key=key
    )


def test_a_key_made_here_does_what_a_developer_may(installation):
    tenant = installation.tenant()
    key = installation.key(tenant)
    assert key.startswith("moor_")
    assert len(key.splitlines()) == 1
    (row,) = installation.json("keys", "list", "--tenant", tenant)
    assert {"servers:call", "servers:publish", "secrets:write"} <= set(row["scopes"])
    assert row["user"] == f"{tenant}@example.com"


def test_the_audit_log_says_which_command_changed_what(installation, echo_file):
    tenant = installation.tenant()
    installation.ok("deploy", str(echo_file), "--tenant", tenant, "--server", "echo")
    events = installation.json("audit", "--tenant", tenant)
    assert [event["action"] for event in events[:2]] == ["version.published", "draft.replaced"]
    assert {event["actor"]["kind"] for event in events} == {"cli"}
    assert "version.published" in installation.ok("audit", "--tenant", tenant, "--limit", "3")


def test_a_key_for_another_organisation_is_refused(installation):
    key = installation.key(installation.tenant())
    other = installation.tenant()
    assert "belongs to" in installation.refused("servers", "list", "--tenant", other, key=key, code=2)


def test_a_bad_key_is_refused(installation):
    assert "valid API key" in installation.refused("servers", "list", key="moor_nonsense")


# ---- calling ---------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def private(installation):
    """A private echo server and a key for it."""
    tenant = installation.tenant()
    installation.ok("deploy", str(ECHO), "--tenant", tenant, "--server", "echo")
    return f"{tenant}/echo", installation.key(tenant)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_tool_is_called_in_every_revision(installation, private, revision):
    server, key = private
    called = ["call", server, "hello", '{"name": "Ada"}', "--key", key, "--revision", revision]
    assert installation.ok(*called) == "Hello Ada\n"
    (row, *_) = installation.json("calls", "--tenant", server.split("/")[0]) or [{"revision": revision}]
    assert row["revision"] in REVISIONS


def test_a_call_prints_the_whole_result_as_json(installation, private):
    server, key = private
    result = installation.json("call", server, "echo", '{"text": "grüß dich"}', "--key", key)
    assert "grüß dich" in json.dumps(result, ensure_ascii=False)


def test_a_draft_and_a_version_are_called_by_name(installation, private):
    server, key = private
    for name in (f"{server}@draft", f"{server}@1.0.0"):
        assert installation.ok("call", name, "hello", '{"name": "Ada"}', "--key", key) == "Hello Ada\n"


def test_a_call_that_fails_says_why_and_answers_one(installation, private):
    server, key = private
    assert "key" in installation.refused("call", server, "hello", '{"name": "Ada"}')
    installation.refused("call", server, "no_such_tool", "{}", "--key", key)
    wrong = installation.run("call", server, "hello", '{"name": 5}', "--key", key)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "name" in wrong.stderr


def test_nobody_there_is_said_in_one_line(installation):
    away = installation.but(MOORING_URL="http://127.0.0.1:1")
    assert "does not answer" in away.refused("call", "a/b", "c")
    assert "does not answer" in away.refused("servers", "list", key="moor_x")
