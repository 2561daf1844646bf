from __future__ import annotations

from tenants.permissions import KEY_SCOPES


def test_a_key_shows_its_secret_once_works_and_is_revoked(owner, with_secret):
    made = owner.post("keys", {"name": "ci", "scopes": ["servers:read"], "days": 7})
    assert made.status_code == 201
    secret, pk = made.json()["secret"], made.json()["id"]
    fresh = with_secret(secret)
    assert fresh.get("servers").status_code == 200
    listed = owner.get("keys")
    assert secret not in listed.content.decode()
    assert next(row for row in listed.json()["data"] if row["id"] == pk)["state"] == "active"
    assert owner.delete(f"keys/{pk}").status_code == 204
    assert owner.delete(f"keys/{pk}").status_code == 204
    assert fresh.get("servers").status_code == 401


def test_a_key_may_call_and_nothing_else_unless_told(owner):
    made = owner.post("keys", {"name": "plain"}).json()
    assert made["scopes"] == ["servers:call"]
    assert made["expires_at"] is not None


def test_a_key_may_be_made_to_last(owner):
    assert owner.post("keys", {"name": "for ever", "days": None}).json()["expires_at"] is None


def test_a_key_cannot_make_a_stronger_key(owner, world, api):
    weak = api(world.acme, ["keys:write", "keys:read"])
    refused = weak.post("keys", {"name": "strong", "scopes": sorted(KEY_SCOPES)})
    assert refused.status_code == 403
    assert "servers:delete" in refused.json()["error"]["data"]["scopes"]


def test_a_key_for_one_server_cannot_make_one_for_all(server, owner, with_secret):
    scopes = ["keys:write", "servers:call"]
    made = owner.post("keys", {"name": "one", "servers": ["echo"], "scopes": scopes}).json()
    limited = with_secret(made["secret"])
    assert limited.post("keys", {"name": "all"}).status_code == 403
    assert limited.post("keys", {"name": "same", "servers": ["echo"]}).status_code == 201
    assert limited.delete(f"keys/{made['id']}").status_code == 403


def test_unknown_scopes_servers_and_keys_are_refused(owner):
    assert owner.post("keys", {"name": "x", "scopes": ["all:things"]}).status_code in {403, 422}
    assert owner.post("keys", {"name": "x", "servers": ["none"]}).status_code == 404
    assert owner.post("keys", {"name": ""}).status_code == 422
    assert owner.delete("keys/nonsense").status_code == 404
    assert owner.delete("keys/00000000-0000-7000-8000-000000000000").status_code == 404


def test_a_foreign_key_cannot_be_revoked(owner, world, api):
    made = owner.post("keys", {"name": "mine"}).json()
    assert api(world.globex).delete(f"keys/{made['id']}").status_code == 404
