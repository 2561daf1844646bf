from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from mooring.scope import tenant_scope
from servers.models import IdempotencyKey


def test_a_repeated_request_gets_the_first_answer_and_does_nothing(owner):
    first = owner.post("servers", {"slug": "a", "title": "A"}, once="one")
    again = owner.post("servers", {"slug": "a", "title": "A"}, once="one")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first
    assert len(owner.get("servers").json()["data"]) == 1


def test_an_empty_answer_is_repeated_too(owner):
    owner.post("servers", {"slug": "a", "title": "A"})
    assert owner.delete("servers/a", once="gone").status_code == 204
    assert owner.delete("servers/a", once="gone").status_code == 204
    assert owner.delete("servers/a").status_code == 404


def test_a_new_keys_secret_is_repeated_and_kept_sealed(owner, world):
    first = owner.post("keys", {"name": "k"}, once="key").json()
    assert owner.post("keys", {"name": "k"}, once="key").json()["secret"] == first["secret"]
    with tenant_scope(world.acme.id):
        kept = str(IdempotencyKey.objects.get(key="key").body)
    assert first["secret"] not in kept


def test_another_body_under_the_same_key_is_refused(owner):
    owner.post("servers", {"slug": "a", "title": "A"}, once="one")
    refused = owner.post("servers", {"slug": "b", "title": "B"}, once="one")
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")


def test_a_refused_request_gives_its_key_back(owner):
    assert owner.patch("servers/a", {"title": "B"}, once="one").status_code == 404
    owner.post("servers", {"slug": "a", "title": "A"})
    assert owner.patch("servers/a", {"title": "B"}, once="one").status_code == 200


def _running(world, age: timedelta):
    """As if a first request had taken the key and not answered yet."""
    with tenant_scope(world.acme.id):
        IdempotencyKey.objects.filter(key="one").update(status=0, body=None, created_at=timezone.now() - age)


def test_a_parallel_repetition_is_told_to_wait(owner, world):
    owner.post("servers", {"slug": "a", "title": "A"}, once="one")
    _running(world, timedelta(seconds=1))
    refused = owner.post("servers", {"slug": "a", "title": "A"}, once="one")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "idempotency_key_in_use")


def test_a_key_left_behind_by_a_dead_process_is_taken_over(owner, world):
    owner.post("servers", {"slug": "a", "title": "A"}, once="one")
    _running(world, timedelta(minutes=6))
    assert (
        owner.post("servers", {"slug": "a", "title": "A"}, once="one").json()["error"]["code"] == "slug_taken"
    )


def test_answers_are_forgotten_after_a_day(owner, world):
    owner.post("servers", {"slug": "a", "title": "A"}, once="one")
    with tenant_scope(world.acme.id):
        IdempotencyKey.objects.filter(key="one").update(created_at=timezone.now() - timedelta(hours=25))
    assert owner.post("servers", {"slug": "a", "title": "A"}, once="one").status_code == 409


def test_keys_of_two_callers_do_not_meet(owner, world, api):
    assert owner.post("servers", {"slug": "a", "title": "A"}, once="one").status_code == 201
    assert api(world.acme).post("servers", {"slug": "b", "title": "B"}, once="one").status_code == 201
    assert api(world.globex).post("servers", {"slug": "a", "title": "A"}, once="one").status_code == 201


def test_a_key_that_is_no_visible_text_is_refused(owner):
    assert owner.post("servers", {"slug": "a", "title": "A"}, once="x" * 201).status_code == 422
