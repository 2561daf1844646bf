from __future__ import annotations

import json
from typing import Any

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


def test_a_yaml_document_is_read_by_a_worker_and_applied_on_demand(owner, world):
    owner.post("servers", {"slug": "pets", "title": "Pets"})
    text = "openapi: 3.1.0\ninfo: {title: Pets, version: '1'}\npaths:\n  /a:\n    get: {responses: {}}\n"
    started = owner.raw("POST", "servers/pets/draft/import", text.encode(), "application/yaml")
    assert (started.status_code, started.json()["state"]) == (202, "waiting")
    where = f"servers/pets/draft/imports/{started.json()['id']}"
    assert owner.post(where, {}).status_code == 409
    with tenant_scope(world.acme.id):
        job = Job.objects.get(payload__import=started.json()["id"])
    jobs.run(job.id)
    assert owner.get(where).json()["state"] == "done"
    assert owner.post(where, {}).json()["state"] == "applied"
    assert len(owner.get("servers/pets/tools").json()["data"]) == 1


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
