"""MCP servers elsewhere and switches, from the command line: on the data directory and through the API."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.commands import MOORING
from tests.servers.gateway.test_remote import changed, listing, peer

__all__ = ["peer"]


@pytest.fixture(scope="module", params=["local", "remote"])
def place(request, installation) -> Iterator[tuple[str, str]]:
    """An organisation and a key of it, or none; behind the API a worker does the looks."""
    tenant = installation.tenant()
    if request.param == "local":
        yield tenant, ""
        return
    worker = subprocess.Popen([MOORING, "worker", "--concurrency", "1"], env=installation.environment)
    try:
        yield tenant, installation.key(tenant)
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(30)
        finally:
            worker.kill()
            worker.wait()


def test_a_remote_server_is_deployed_called_compared_and_accepted(installation, place, peer):
    tenant, key = place
    header = "Authorization: Bearer s3cret-of-the-peer"
    deploy = ["deploy", peer.url, "--tenant", tenant, "--server", "far", "--public", "--header", header]
    printed = installation.ok(*deploy, key=key)
    assert printed.splitlines()[-1] == f"{installation.origin}/t/{tenant}/far/mcp"
    assert peer.last.headers["Authorization"] == "Bearer s3cret-of-the-peer"
    assert installation.ok("call", f"{tenant}/far", "echo", '{"text": "hi"}') == "hi\n"
    # Neither is the credential to be said again.
    assert installation.json(*deploy[:-2], key=key)["is_new_version"] is False
    (upstream,) = installation.json("upstreams", f"{tenant}/far", key=key)
    assert (upstream["taken"], upstream["listed"], upstream["changed"]) == (1, 1, 0)
    assert upstream["definition"]["headers"] == {"Authorization": "Bearer {secret:token}"}
    assert peer.url in installation.ok("upstreams", f"{tenant}/far", key=key)


def test_what_changed_is_shown_and_accepted(installation, place, peer):
    tenant, key = place
    at = f"{tenant}/far-2"
    installation.ok("deploy", peer.url, "--tenant", tenant, "--server", "far-2", key=key)
    assert installation.ok("accept", at, key=key) == "Nothing has changed.\n"
    peer.instead["tools/list"] = listing(changed(description="Other.\u200b"))
    (upstream,) = installation.json("upstreams", at, "--look", key=key)
    assert upstream["changed"] == 1
    told = installation.ok("accept", at, key=key)
    assert '-  "description": "Gives a text back.",' in told
    assert '+  "description": "Other.\\u200b",' in told
    assert "ZERO WIDTH SPACE" in told
    assert "Nothing by the name" in installation.refused("accept", at, "nothing", key=key)
    assert "version 1.0.1 serves it" in installation.ok("accept", at, "echo", key=key)
    assert installation.json("accept", at, key=key) == []


def test_an_upstream_that_refuses_says_so_in_one_line(installation, place, peer):
    tenant, key = place
    peer.answers("tools/list", status=401)
    deploy = ["deploy", peer.url, "--tenant", tenant, "--server", "far-3"]
    assert "does not accept its credentials" in installation.refused(*deploy, key=key)


def test_switches_are_set_listed_and_taken_back(installation, place, echo_file):
    tenant, key = place
    at = f"{tenant}/echo"
    installation.ok("deploy", str(echo_file), "--tenant", tenant, "--server", "echo", "--public", key=key)
    answer = '{"content": [{"type": "text", "text": "mocked"}]}'
    set_one = ["override", "set", at]
    made = installation.json(*set_one, "mock", "--tool", "echo", "--answer", answer, "--hours", "1", key=key)
    assert made["expires_at"]
    installation.ok(*set_one, "fault", "--share", "0.5", "--delay-ms", "5", "--reason", "A drill.", key=key)
    rows = installation.json("override", "list", at, key=key)
    assert [(row["kind"], row["tool"]) for row in rows] == [("fault", ""), ("mock", "echo")]
    assert "A drill." in installation.ok("override", "list", at, key=key)
    assert installation.json("override", "clear", at, made["id"], key=key) == [made["id"]]
    assert installation.ok("override", "clear", at, "--all", key=key) == "Taken back: 1.\n"
    assert installation.json("override", "list", at, key=key) == []
    assert "share" in installation.refused(*set_one, "fault", key=key)


def test_command_lines_that_make_no_sense_are_refused(installation):
    for arguments in (
        ["override", "set", "a/b", "break"],
        ["override", "set", "a/b", "mock", "--answer", "{"],
        ["override", "clear", "a/b"],
        ["deploy", "x.yaml", "--server", "b", "--header", "A: b"],
        ["deploy", "https://x.example/mcp", "--server", "b", "--header", "secret-without-a-name"],
    ):
        said = installation.refused(*arguments, code=2)
        assert "secret-without" not in said
