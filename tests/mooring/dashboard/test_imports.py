"""Documents in YAML, and the list of what was handed in."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from mooring.jobs.models import Job
from mooring.scope import tenant_scope
from servers import tasks

if TYPE_CHECKING:
    from django.test import Client

    from tests.mooring.dashboard.conftest import Stage

MANIFEST = """\
mooring: 1
server: {title: Calm}
tools:
  - {name: hush, input_schema: {type: object}, static: {kind: echo}}
"""


@pytest.fixture
def handed_in(stage: Stage, alice: Client) -> Callable[[str], str]:
    """Hands in a manifest for the stage's server; gives the address of its import."""

    def hand_in(text: str) -> str:
        answer: Any = alice.post(f"{stage.here}versions/import/", {"document": text})
        assert answer.status_code == 302
        return str(answer["Location"])

    return hand_in


def test_a_manifest_in_yaml_is_read_by_a_worker_shown_and_then_applied(
    stage: Stage, alice: Client, handed_in: Callable[[str], str], run_jobs: Callable[[], None]
) -> None:
    at = handed_in(MANIFEST)
    assert b"Waiting for a worker" in alice.get(at).content
    run_jobs()
    page = alice.get(at).content.decode()
    assert "Replace the draft" in page
    assert "hush" in page, "it shows what will change"
    assert "get_sky" in alice.get(f"{stage.here}tools/").content.decode(), "and nothing has changed yet"
    assert alice.post(at)["Location"] == stage.here
    assert "hush" in alice.get(f"{stage.here}tools/").content.decode()
    assert alice.get(at)["Location"] == stage.here


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("a: [", "line"), ("a: 1", "neither a manifest"), ("mooring: 1", "server"), ("a: &a [*a]", "*a")],
)
def test_a_bad_manifest_in_yaml_is_a_failed_import_that_says_why(
    alice: Client, handed_in: Callable[[str], str], run_jobs: Callable[[], None], text: str, sentence: str
) -> None:
    at = handed_in(text)
    run_jobs()
    page = alice.get(at).content.decode()
    assert 'role="alert"' in page
    assert sentence in page
    assert "versions/import/" in page, "another document can be tried"


def test_a_manifest_that_is_meant_for_no_server_becomes_one(
    stage: Stage, alice: Client, run_jobs: Callable[[], None]
) -> None:
    at = alice.post(f"{stage.base}servers/new/openapi/", {"document": MANIFEST})["Location"]
    run_jobs()
    page = alice.get(at).content.decode()
    assert 'value="Calm"' in page
    assert "hush" in page, "it shows what is in it"
    taken = alice.post(at, {"name": "Calm", "slug": "sky"})
    assert taken.status_code == 422
    assert "is taken" in taken.content.decode() or "already" in taken.content.decode()
    made = alice.post(at, {"name": "Calmer", "slug": "calm"})
    assert made["Location"] == f"{stage.base}servers/calm/"
    assert "hush" in alice.get(f"{stage.base}servers/calm/tools/").content.decode()
    assert "Calmer" in alice.get(f"{stage.base}servers/calm/").content.decode()


def test_a_draft_of_three_thousand_tools_leaves_and_comes_in_again(
    stage: Stage, alice: Client, run_jobs: Callable[[], None]
) -> None:
    def tool(number: int) -> dict[str, Any]:
        said = f"Does the {number}th thing. " + "It does it well. " * 120
        return {
            "name": f"tool_{number}",
            "description": said,
            "input_schema": {"type": "object"},
            "static": {"kind": "echo"},
        }

    manifest = {"mooring": 1, "server": {"title": "Large"}, "tools": [tool(n) for n in range(3_000)]}
    text = json.dumps(manifest)
    assert len(text) > 5 * 2**20, "larger than other documents may be"
    file = SimpleUploadedFile("large.json", text.encode())
    at = alice.post(f"{stage.base}servers/new/openapi/", {"file": file})["Location"]
    run_jobs()
    assert alice.post(at, {"name": "Large", "slug": "large"})["Location"].endswith("/large/")
    exported = alice.get(f"{stage.base}servers/large/versions/draft.json").content
    assert json.loads(exported) == manifest
    assert len(exported) <= len(text), "it is written compactly"


def test_an_openapi_document_handed_in_for_a_server_is_offered_to_it(
    stage: Stage, alice: Client, handed_in: Callable[[str], str], run_jobs: Callable[[], None]
) -> None:
    at = handed_in(
        "openapi: 3.1.0\ninfo: {title: Pets, version: '1'}\nservers: [{url: 'https://a.example'}]\n"
        "paths: {/pets: {get: {operationId: pets, responses: {}}}}\n"
    )
    run_jobs()
    assert '<option value="sky" selected>' in alice.get(at).content.decode()


def test_the_list_says_what_became_of_each_document(
    stage: Stage, alice: Client, handed_in: Callable[[str], str], run_jobs: Callable[[], None]
) -> None:
    handed_in("a: [")
    applied = handed_in(MANIFEST)
    run_jobs()
    alice.post(applied)
    handed_in(MANIFEST)
    page = alice.get(f"{stage.base}imports/").content.decode()
    for state in ("waiting", "applied", "failed", "read, not applied"):
        assert page.count(f">{state}</span>") == 1, state
    assert page.index("waiting") < page.index("failed"), "newest first"
    assert "Nothing was imported yet" not in page


def test_the_list_comes_in_pages(stage: Stage, alice: Client, handed_in: Callable[[str], str]) -> None:
    for _ in range(25):
        handed_in("a: 1")
    first = alice.get(f"{stage.base}imports/").content.decode()
    assert "of 26" in first
    assert "pets" not in first
    assert "pets" in alice.get(f"{stage.base}imports/?page=2").content.decode()


def test_an_organisation_without_imports_is_told_how_to_begin(
    stage: Stage, client_of: Callable[..., Client]
) -> None:
    page = client_of(stage.world.eve).get(f"/app/{stage.world.globex.slug}/imports/").content.decode()
    assert "Nothing was imported yet" in page
    assert "servers/new/openapi/" in page


def test_an_import_for_a_deleted_server_says_so(
    stage: Stage, alice: Client, handed_in: Callable[[str], str], run_jobs: Callable[[], None]
) -> None:
    at = handed_in(MANIFEST)
    run_jobs()
    alice.post(f"{stage.here}delete/")
    assert "sky, deleted" in alice.get(f"{stage.base}imports/").content.decode()
    assert "Create the server" in alice.get(at).content.decode(), "a new one may be made of it"


def test_an_import_that_was_applied_to_a_deleted_server_leads_to_the_list(
    stage: Stage, alice: Client, handed_in: Callable[[str], str], run_jobs: Callable[[], None]
) -> None:
    at = handed_in(MANIFEST)
    run_jobs()
    alice.post(at)
    alice.post(f"{stage.here}delete/")
    page = alice.get(at, follow=True)
    assert page.redirect_chain == [(f"{stage.base}imports/", 302)]
    assert "has been deleted since" in page.content.decode()


def test_the_page_shows_how_many_operations_were_read(
    stage: Stage, alice: Client, run_jobs: Callable[[], None]
) -> None:
    paths = {f"/{n}": {"get": {"operationId": f"op{n}", "responses": {}}} for n in range(120)}
    document = {"openapi": "3.1.0", "info": {"title": "Many", "version": "1"}, "paths": paths}
    at = alice.post(f"{stage.base}servers/new/openapi/", {"document": json.dumps(document)})["Location"]
    with tenant_scope(stage.world.acme.id):
        job = Job.objects.get(payload__import=at.rstrip("/").rpartition("/")[2])
    told: list[tuple[str, int]] = []
    tasks.do_import(job, lambda text, percent, /: told.append((text, percent)))
    assert [percent for _, percent in told] == [5, 10, 45, 80, 95]
    assert told[2][0] == "Reading the operations: 50 of 120"


def test_a_large_version_is_offered_as_json_and_not_shown(stage: Stage, alice: Client) -> None:
    resource = {"name": "Book", "uri": "book://all", "text": "A very long word. " * 20_000}
    large = {"mooring": 1, "server": {"title": "Large"}, "resources": [resource]}
    assert alice.post(f"{stage.here}versions/import/", {"document": json.dumps(large)}).status_code == 302
    assert alice.post(f"{stage.here}versions/", {"number": "2.0.0"}).status_code == 302
    page = alice.get(f"{stage.here}versions/2.0.0/").content.decode()
    assert "too large to be shown" in page
    assert "A very long word" not in page
    assert "manifest.yaml" not in page
    file = alice.get(f"{stage.here}versions/2.0.0/manifest.json")
    assert json.loads(file.content) == large
    as_yaml = alice.get(f"{stage.here}versions/2.0.0/manifest.yaml")
    assert as_yaml.content == file.content, "writing YAML would take too long"
    assert 'filename="sky-2.0.0.json"' in as_yaml["Content-Disposition"]
    assert "A very long word" not in alice.get(f"{stage.here}versions/1.0.0/").content.decode()
