"""Upstreams and switches over the REST API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mooring import jobs
from mooring.jobs.models import Job
from mooring.scope import tenant_scope
from servers import tasks
from tests.conftest import World
from tests.mooring.api.conftest import Api
from tests.servers.gateway.test_remote import changed, listing, peer
from tests.servers.runtimes.remote.peers import Peer

__all__ = ["peer"]
assert tasks.look_at_upstream  # imported, so that workers' jobs are known


@pytest.fixture
def look(owner: Api, world: World) -> Callable[[], Any]:
    """Ask for a look, and do what a worker does. Returns the upstream afterwards."""

    def ask() -> Any:
        asked = owner.post("servers/echo/upstreams/peer/look")
        assert (asked.status_code, asked.json()["job"]) == (202, "waiting")
        with tenant_scope(world.acme.id):
            waiting = list(
                Job.objects.filter(kind="upstream.look", state="waiting").values_list("id", flat=True)
            )
        for job in waiting:
            jobs.run(job)
        return owner.get("servers/echo/upstreams/peer").json()

    return ask


@pytest.fixture
def upstream(server: str, owner: Api, peer: Peer) -> str:
    """Declared in the draft of the echo server."""
    put = owner.put("servers/echo/upstreams/peer", {"url": peer.url})
    assert (put.status_code, put.json()["looked_at"]) == (200, None)
    return "peer"


def test_an_upstream_is_declared_looked_at_taken_from_and_taken_out(
    owner: Api, upstream: str, look: Callable[[], Any]
) -> None:
    seen = look()
    assert (seen["job"], seen["listed"], seen["taken"]) == ("done", 1, 0)
    (part,) = owner.get("servers/echo/upstreams/peer/listing").json()["data"]
    assert (part["section"], part["name"], part["taken_as"], part["warnings"]) == ("tools", "echo", None, [])
    # The server has a tool named echo already, so this one is taken under another name.
    taken = owner.post("servers/echo/upstreams/peer/take").json()
    assert (taken["upstream"]["taken"], taken["refused"]) == (1, [])
    (part,) = owner.get("servers/echo/upstreams/peer/listing").json()["data"]
    assert part["taken_as"] == "echo_2"
    assert part["pinned"] == part["digest"]
    assert owner.post("servers/echo/upstreams/peer/take", {"parts": []}).json()["upstream"]["taken"] == 0
    assert owner.delete("servers/echo/upstreams/peer").status_code == 204
    assert owner.get("servers/echo/upstreams").json() == {"data": []}
    assert owner.get("servers/echo/upstreams/peer").status_code == 404


def test_what_changed_is_listed_and_accepted_once(
    owner: Api, upstream: str, look: Callable[[], Any], peer: Peer
) -> None:
    look()
    part = {"section": "tools", "name": "echo"}
    assert owner.post("servers/echo/upstreams/peer/take", {"parts": [part]}).status_code == 200
    assert owner.post("servers/echo/versions", {}).status_code == 201
    peer.instead["tools/list"] = listing(changed(description="Other.\u200b"))
    assert look()["changed"] == 1
    (change,) = owner.get("servers/echo/drifts").json()["data"]
    assert (change["is_live"], change["in_draft"]) == (True, True)
    assert change["pinned"]["description"] == "Gives a text back."
    assert change["warnings"] == ["description: U+200B ZERO WIDTH SPACE at 6"]
    wanted = part | {"upstream": "peer", "digest": change["digest"]}
    stale = owner.post("servers/echo/drifts/accept", wanted | {"digest": "0" * 64})
    assert (stale.status_code, stale.json()["error"]["code"]) == (409, "changed_again")
    assert owner.post("servers/echo/drifts/accept", wanted).json() == {"version": "1.1.1"}
    assert owner.get("servers/echo/drifts").json() == {"data": []}


def test_a_part_that_is_not_listed_cannot_be_taken(
    owner: Api, upstream: str, look: Callable[[], Any]
) -> None:
    look()
    wanted = {"parts": [{"section": "tools", "name": "nothing"}]}
    assert owner.post("servers/echo/upstreams/peer/take", wanted).status_code == 404


def test_a_bad_upstream_is_refused_at_its_fields(owner: Api, server: str) -> None:
    refused = owner.put("servers/echo/upstreams/peer", {"url": "nonsense", "colour": "red"})
    assert refused.status_code == 422
    assert refused.json()["error"]["data"]["fields"]
    assert owner.put("servers/echo/upstreams/Peer", {"url": "https://far.example"}).status_code == 422


def test_switches_are_set_listed_replaced_and_taken_back(owner: Api, server: str) -> None:
    fault = {
        "kind": "fault",
        "tool": "echo",
        "settings": {"share": 0.5, "error": "No."},
        "reason": "A drill.",
    }
    made = owner.put("servers/echo/overrides", fault).json()
    again = owner.put("servers/echo/overrides", fault | {"settings": {"share": 1, "delay_ms": 5}}).json()
    assert again["id"] == made["id"]
    (row,) = owner.get("servers/echo/overrides").json()["data"]
    assert row == again
    assert (row["settings"], row["reason"]) == ({"share": 1, "delay_ms": 5}, "A drill.")
    assert owner.delete(f"servers/echo/overrides/{row['id']}").status_code == 204
    assert owner.delete(f"servers/echo/overrides/{row['id']}").status_code == 404
    assert owner.get("servers/echo/overrides").json() == {"data": []}


def test_a_switch_that_cannot_be_is_refused(owner: Api, server: str) -> None:
    for body in ({"kind": "break"}, {"kind": "mock"}, {"kind": "fault", "settings": {"share": 2}}):
        assert owner.put("servers/echo/overrides", body).status_code == 422


def test_another_organisations_switch_is_missing(
    owner: Api, server: str, world: World, api: Callable[..., Api]
) -> None:
    made = owner.put("servers/echo/overrides", {"kind": "disable"}).json()
    foreign = api(world.globex)
    foreign.post("servers", {"slug": "echo", "title": "Echo"})
    assert foreign.delete(f"servers/echo/overrides/{made['id']}").status_code == 404
    assert owner.get("servers/echo/overrides").json()["data"][0]["id"] == made["id"]
