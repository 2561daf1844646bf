from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from mooring.scope import tenant_scope
from tenants.keys import new_key
from tenants.models import ApiKey, Membership
from tenants.services import revoke_key


def test_the_key_says_who_asks_and_what_is_allowed(owner, world):
    me = owner.get("tenant").json()
    assert (me["slug"], me["user"], me["role"]) == (world.acme.slug, world.alice.email, "owner")
    assert "servers:publish" in me["permissions"]
    assert me["servers"] is None


def test_malformed_unknown_expired_and_revoked_keys_are_refused_alike(world, key_of, with_secret):
    revoked, expired = key_of(world.acme), key_of(world.acme)
    with tenant_scope(world.acme.id):
        for secret in (revoked, expired):
            key = ApiKey.objects.get(prefix=secret[:12])
            if secret == revoked:
                revoke_key(key, actor=world.actor)
            else:
                ApiKey.objects.filter(id=key.id).update(expires_at=timezone.now() - timedelta(seconds=1))
    answers = [with_secret(secret).get("tenant") for secret in ("", "moor_x", new_key(), revoked, expired)]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["error"]["message"] for answer in answers}) == 1
    assert all(answer["WWW-Authenticate"].startswith("Bearer") for answer in answers)


def test_the_key_of_somebody_who_left_is_refused(world, api):
    client = api(world.acme, user=world.dora)
    assert client.get("tenant").status_code == 200
    with tenant_scope(world.acme.id):
        Membership.objects.filter(user=world.dora).delete()
    assert client.get("tenant").status_code == 401


def test_the_key_of_a_switched_off_account_is_refused(world, api):
    client = api(world.acme, user=world.dora)
    world.dora.is_active = False
    world.dora.save(update_fields=["is_active"])
    assert client.get("tenant").status_code == 401


def test_a_key_carries_no_more_than_its_user_holds(world, api):
    assert api(world.acme, user=world.bob).post("servers", {"slug": "x", "title": "X"}).status_code == 403


def test_a_session_cookie_is_no_credential_here(world, client_of):
    assert client_of(world.alice).get("/api/v1/tenant").status_code == 401


def test_use_of_a_key_is_noted(world, owner):
    assert owner.get("tenant").status_code == 200
    assert owner.get("keys").json()["data"][0]["last_used_at"] is not None


@pytest.mark.parametrize(
    "path", ["servers/echo", "servers/echo/draft", "servers/echo/versions", "servers/echo/tools"]
)
def test_a_stranger_learns_nothing_of_a_server(server, world, api, path):
    eve = api(world.globex)
    foreign, missing = eve.get(path), eve.get(path.replace("echo", "none"))
    assert foreign.status_code == missing.status_code == 404
    assert foreign.json()["error"]["message"] == missing.json()["error"]["message"]


def test_a_key_limited_to_one_server_sees_that_one_alone(server, owner, world, with_secret):
    owner.post("servers", {"slug": "other", "title": "Other"})
    made = owner.post(
        "keys", {"name": "one", "servers": ["echo"], "scopes": ["servers:read", "servers:write"]}
    )
    limited = with_secret(made.json()["secret"])
    assert [row["slug"] for row in limited.get("servers").json()["data"]] == ["echo"]
    assert limited.get("servers/other").status_code == 404
    assert limited.post("servers", {"slug": "third", "title": "Third"}).status_code == 403
    assert limited.get("tenant").json()["servers"] == ["echo"]
