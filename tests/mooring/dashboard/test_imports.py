"""Documents in YAML, and the list of what was handed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

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


def test_a_manifest_is_no_document_to_choose_operations_from(
    stage: Stage, alice: Client, run_jobs: Callable[[], None]
) -> None:
    at = alice.post(f"{stage.base}servers/new/openapi/", {"document": MANIFEST})["Location"]
    run_jobs()
    assert "under Versions" in alice.get(at).content.decode()


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
    assert alice.get(at).status_code == 404
