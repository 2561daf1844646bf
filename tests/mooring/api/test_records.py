from __future__ import annotations

from django.utils import timezone

from mooring.scope import tenant_scope
from servers.models import CallRecord, Server


def _record(tenant, **fields):
    with tenant_scope(tenant.id):
        server = Server.objects.get(slug="echo")
        return CallRecord.objects.create(
            tenant=tenant,
            server_id=server.id,
            server_slug="echo",
            time=timezone.now(),
            request_id="r",
            principal_kind="user",
            method="tools/call",
            duration_us=900,
            request_bytes=10,
            answer_bytes=20,
            **({"status": "ok", "subject": "echo"} | fields),
        )


def test_calls_are_listed_newest_first_and_filtered(server, owner, world, api):
    _record(world.acme)
    _record(world.acme, status="refused")
    rows = owner.get("calls").json()["data"]
    assert [row["status"] for row in rows] == ["refused", "ok"]
    assert rows[0]["server"] == "echo"
    assert len(owner.get("calls?status=ok&server=echo").json()["data"]) == 1
    assert owner.get("calls?server=none").status_code == 404
    assert api(world.globex).get("calls").json()["data"] == []


def test_call_pages_neither_skip_nor_repeat(server, owner, world):
    for number in range(5):
        _record(world.acme, subject=str(number))
    first = owner.get("calls?limit=3").json()
    _record(world.acme, subject="late")
    second = owner.get(f"calls?limit=3&cursor={first['next']}").json()
    subjects = [row["subject"] for row in first["data"] + second["data"]]
    assert (subjects, second["next"]) == (["4", "3", "2", "1", "0"], None)


def test_every_change_is_in_the_audit_log_with_the_key_that_made_it(server, owner, world):
    events = owner.get("audit").json()["data"]
    assert [event["action"] for event in events[:3]] == [
        "version.published",
        "draft.replaced",
        "server.created",
    ]
    assert events[0]["actor"]["kind"] == "key"
    assert world.alice.email in events[0]["actor"]["name"]
    assert len(events[0]["request_id"]) > 10
    assert [row["action"] for row in owner.get("audit?action=server.created").json()["data"]] == [
        "server.created"
    ]
