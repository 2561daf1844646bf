from __future__ import annotations

import json
from typing import Any

import pytest

import servers.tasks  # noqa: F401  # teaches this process to read documents
from mooring import jobs
from mooring.jobs.models import Job
from mooring.scope import tenant_scope

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Pets", "version": "1"},
    "servers": [{"url": "https://pets.example/v1"}],
    "paths": {
        "/pets": {
            "get": {
                "operationId": "listPets",
                "summary": "All pets",
                "parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer"}}],
                "responses": {"200": {"description": "ok"}},
            }
        }
    },
}


def test_a_json_document_becomes_the_draft_at_once(owner):
    owner.post("servers", {"slug": "pets", "title": "Pets"})
    done = owner.raw("POST", "servers/pets/draft/import", json.dumps(DOCUMENT).encode(), "text/plain")
    assert (done.status_code, done.json()["state"]) == (200, "applied")
    assert done.json()["operations"][0]["key"] == "GET /pets"
    assert len(owner.get("servers/pets/tools").json()["data"]) == 1


@pytest.fixture
def run_jobs(world):
    """Does what workers would do for Acme."""

    def run():
        with tenant_scope(world.acme.id):
            waiting = list(Job.objects.filter(state="waiting").values_list("id", flat=True))
        for job in waiting:
            jobs.run(job)

    return run


def test_a_yaml_document_is_read_by_a_worker_and_applied_on_demand(owner, run_jobs):
    owner.post("servers", {"slug": "pets", "title": "Pets"})
    text = "openapi: 3.1.0\ninfo: {title: Pets, version: '1'}\npaths:\n  /a:\n    get: {responses: {}}\n"
    started = owner.raw("POST", "servers/pets/draft/import", text.encode(), "application/yaml")
    assert (started.status_code, started.json()["state"]) == (202, "waiting")
    where = f"servers/pets/draft/imports/{started.json()['id']}"
    assert owner.post(where, {}).status_code == 409
    run_jobs()
    assert owner.get(where).json()["state"] == "done"
    assert owner.post(where, {}).json()["state"] == "applied"
    assert len(owner.get("servers/pets/tools").json()["data"]) == 1


def test_a_document_in_flow_yaml_is_read_by_a_worker_too(owner):
    owner.post("servers", {"slug": "pets", "title": "Pets"})
    text = b"{openapi: 3.1.0, info: {title: Pets, version: '1'}, paths: {}}"
    assert owner.raw("POST", "servers/pets/draft/import", text, "application/yaml").status_code == 202
    refused = owner.raw("POST", "servers/pets/draft/import", text)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "json_syntax")


@pytest.mark.parametrize("media", ["application/json", "application/yaml"])
def test_a_manifest_replaces_the_whole_draft(owner, server, manifest, run_jobs, media):
    new = manifest | {"server": {"title": "Louder"}}
    done = owner.raw("POST", "servers/echo/draft/import", json.dumps(new).encode(), media)
    if media == "application/yaml":
        assert done.json()["state"] == "waiting"
        run_jobs()
        done = owner.post(f"servers/echo/draft/imports/{done.json()['id']}", {})
    assert (done.json()["state"], done.json()["kind"]) == ("applied", "manifest")
    assert owner.get("servers/echo/draft").json() == new


def test_a_refused_document_is_listed_as_a_failed_import_and_changes_nothing(owner, server):
    before = owner.get("servers/echo/draft").json()
    for body in (b'{"swagger": "2.0"}', b'{"openapi": "3.0.0"'):
        refused = owner.raw("POST", "servers/echo/draft/import", body)
        assert refused.status_code == 422
        row = owner.get("imports").json()["data"][0]
        assert (row["state"], row["server"], row["error"]) == (
            "failed",
            "echo",
            refused.json()["error"]["message"],
        )
        assert refused.json()["error"]["request_id"]
    assert len(owner.get("imports").json()["data"]) == 2
    assert owner.get("servers/echo/draft").json() == before


def test_a_refusal_is_repeated_for_the_same_idempotency_key(owner, server):
    first, second = (
        owner.send("POST", "servers/echo/draft/import", {"swagger": "2.0"}, once="k") for _ in range(2)
    )
    assert (first.status_code, second.status_code) == (422, 422)
    assert second["Idempotency-Replayed"] == "true"
    assert len(owner.get("imports").json()["data"]) == 1


def test_imports_are_listed_newest_first_in_pages(owner, world, api):
    owner.post("servers", {"slug": "pets", "title": "Pets"})
    owner.raw("POST", "servers/pets/draft/import", json.dumps(DOCUMENT).encode())
    for _ in range(2):
        owner.raw("POST", "servers/pets/draft/import", b"openapi: 3.1.0", "application/yaml")
    first = owner.get("imports?limit=2").json()
    second = owner.get(f"imports?limit=2&cursor={first['next']}").json()
    states = [row["state"] for row in first["data"] + second["data"]]
    assert (states, second["next"]) == (["waiting", "waiting", "applied"], None)
    assert api(world.globex).get("imports").json()["data"] == []
    assert owner.get("imports").json()["data"][0].keys() == {
        *("id", "name", "state", "progress", "error", "server", "created_at", "read_at", "applied_at")
    }


def test_a_key_limited_to_a_server_follows_its_imports_and_no_others(owner, with_secret, run_jobs):
    for slug in ("pets", "cats"):
        owner.post("servers", {"slug": slug, "title": slug})
    scopes = ["servers:read", "servers:write"]
    made = owner.post("keys", {"name": "one", "servers": ["pets"], "scopes": scopes}).json()
    limited = with_secret(made["secret"])
    text = b"openapi: 3.1.0\ninfo: {title: Pets, version: '1'}\npaths:\n  /a:\n    get: {responses: {}}\n"
    mine = limited.raw("POST", "servers/pets/draft/import", text, "application/yaml").json()
    other = owner.raw("POST", "servers/cats/draft/import", text, "application/yaml").json()
    at = f"servers/pets/draft/imports/{mine['id']}"
    assert limited.get(at).json()["state"] == "waiting"
    run_jobs()
    assert limited.get(at).json()["state"] == "done"
    assert limited.post(at, {}).json()["state"] == "applied"
    assert [row["id"] for row in limited.get("imports").json()["data"]] == [mine["id"]]
    for path in (f"servers/pets/draft/imports/{other['id']}", f"servers/cats/draft/imports/{other['id']}"):
        assert limited.get(path).status_code == 404
        assert limited.post(path, {}).status_code == 404
    assert owner.get(f"servers/pets/draft/imports/{other['id']}").status_code == 404


def test_what_is_no_openapi_3_document_is_refused_with_advice(owner):
    owner.post("servers", {"slug": "pets", "title": "Pets"})
    for body in (
        b'{"swagger": "2.0"}',
        b"[1]",
        b'{"openapi": "3.0.0"',
        b"{}",
        b"\xff\xfe\xfa",
        b'{"a": "\x00"}',
    ):
        refused = owner.raw("POST", "servers/pets/draft/import", body)
        assert refused.status_code == 422, body
        assert len(refused.json()["error"]["message"]) > 20


def test_a_foreign_import_is_not_found(owner, world, api):
    owner.post("servers", {"slug": "pets", "title": "Pets"})
    started = owner.raw("POST", "servers/pets/draft/import", b"openapi: 3.1.0", "application/yaml")
    eve = api(world.globex)
    eve.post("servers", {"slug": "pets", "title": "Pets"})
    assert eve.get(f"servers/pets/draft/imports/{started.json()['id']}").status_code == 404
    assert eve.get("servers/pets/draft/imports/nonsense").status_code == 404


def test_a_large_manifest_is_taken_as_a_body_and_handed_to_a_worker_as_a_document(owner, server, run_jobs):
    texts = [{"name": f"r{n}", "uri": f"r://{n}", "text": "a" * 900_000} for n in range(8)]
    large = {"mooring": 1, "server": {"title": "Large"}, "resources": texts}
    assert owner.put("servers/echo/draft", large).json() == large

    large["server"] = {"title": "Larger"}
    started = owner.post("servers/echo/draft/import", large)
    assert (started.status_code, started.json()["state"]) == (202, "waiting")
    run_jobs()
    assert owner.post(f"servers/echo/draft/imports/{started.json()['id']}", {}).json()["state"] == "applied"
    assert owner.get("servers/echo/draft").json() == large


def test_what_is_larger_than_its_kind_may_be_is_refused(owner, server, run_jobs):
    filler = {"x-filler": "a" * 6 * 2**20}
    started = owner.post("servers/echo/draft/import", DOCUMENT | filler)
    assert started.status_code == 202
    run_jobs()
    row = owner.get(f"servers/echo/draft/imports/{started.json()['id']}").json()
    assert (row["state"], "larger than 5 MiB" in row["error"]) == ("failed", True)
    refused = owner.raw("POST", "servers/echo/draft/import", b"a: " + b"b" * 6 * 2**20, "application/yaml")
    assert refused.json()["error"]["code"] == "document_too_large"
    assert "16 MiB" in refused.json()["error"]["message"]
    assert owner.put("servers/echo/draft", {"a": "b" * 18 * 2**20}).status_code == 413
