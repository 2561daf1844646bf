"""Documents on their way to becoming tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mooring.errors import Conflict, InvalidInput
from tests.servers.services.conftest import EVERYTHING, last_event

if TYPE_CHECKING:
    from servers.models import Server
    from tests.conftest import World


DOCUMENT = """\
openapi: 3.1.0
info: {title: Pets, version: "1"}
servers: [{url: https://pets.example.com}]
components:
  securitySchemes: {key: {type: apiKey, in: header, name: X-Key}}
paths:
  /pets:
    get:
      operationId: listPets
      parameters: [{name: limit, in: query, schema: {type: integer}}]
      responses: {"200": {description: ok}}
    post:
      operationId: addPet
      security: [{key: []}]
      requestBody: {content: {application/json: {schema: {type: object, properties: {name: {type: string}}}}}}
      responses: {"201": {description: made}}
"""


@pytest.fixture
def imported(acme: World) -> Any:
    from servers.models import Import
    from servers.services import run_import, start_import

    started = start_import(acme.acme, actor=acme.actor, name="pets.yaml", document=DOCUMENT, url=None)
    run_import(started.id)
    return Import.objects.get(id=started.id)


def test_an_import_is_kept_recorded_and_queued(acme: World) -> None:
    from servers.services import start_import

    started = start_import(acme.acme, actor=acme.actor, name="pets.yaml", document=DOCUMENT, url=None)
    assert started.job is not None
    assert (started.job.kind, started.job.payload) == ("openapi.import", {"import": str(started.id)})
    assert last_event(acme).action == "import.started"


def test_imports_of_an_organisation_are_bounded_in_number(
    acme: World, imported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from servers.services import create_server, import_now, keeping, start_import

    monkeypatch.setattr(keeping, "MOST_IMPORTS", 1)
    server = create_server(acme.acme, slug="pets", title="Pets", actor=acme.actor)
    with pytest.raises(Conflict, match="has 1 imports") as refused:
        start_import(acme.acme, actor=acme.actor, name="x", document=DOCUMENT, url=None)
    assert refused.value.reason == "too_many_imports"
    with pytest.raises(Conflict, match="has 1 imports"):
        import_now(server, actor=acme.actor, name="x", document="{}")


def test_imports_of_an_organisation_are_bounded_in_what_they_take(
    acme: World, imported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from servers.services import keeping, run_import, start_import

    address = "https://pets.example.com/openapi.yaml"
    waiting = start_import(acme.acme, actor=acme.actor, name="x", document=None, url=address)
    monkeypatch.setattr(keeping, "IMPORTED_BYTES", imported.size + 10)
    with pytest.raises(Conflict, match="after 30 days") as refused:
        start_import(acme.acme, actor=acme.actor, name="x", document=DOCUMENT, url=None)
    assert refused.value.reason == "too_many_imports"
    with pytest.raises(Conflict, match="after 30 days"):
        run_import(waiting.id, fetched=DOCUMENT)


@pytest.mark.parametrize(
    ("document", "url"),
    [
        (None, None),
        ("a", "https://example.com/a"),
        ("  ", None),
        ("x\x00", None),
        (None, "file:///etc/passwd"),
    ],
)
def test_an_import_without_one_usable_source_is_refused(
    acme: World, document: str | None, url: str | None
) -> None:
    from servers.services import start_import

    with pytest.raises(InvalidInput):
        start_import(acme.acme, actor=acme.actor, name="x", document=document, url=url)


def test_a_read_import_becomes_a_server(acme: World, imported: Any) -> None:
    from servers.services import apply_import, draft_manifest, run_import

    operations = {operation["key"]: operation["name"] for operation in imported.result["operations"]}
    assert set(operations) == {"GET /pets", "POST /pets"}
    run_import(imported.id)
    server = apply_import(imported, actor=acme.actor, slug="pets")
    draft = draft_manifest(server)
    assert {tool["name"] for tool in draft["tools"]} == set(operations.values())
    assert len(draft["secrets"]) == 1
    assert (server.title, imported.server_id) == ("Pets", server.id)


def test_only_chosen_operations_and_their_secrets_are_taken(acme: World, imported: Any) -> None:
    from servers.services import apply_import, draft_manifest

    server = apply_import(imported, actor=acme.actor, slug="pets", title="My pets", chosen=["GET /pets"])
    draft = draft_manifest(server)
    assert (server.title, len(draft["tools"])) == ("My pets", 1)
    assert "secrets" not in draft
    for chosen in ([], ["GET /cats"]):
        with pytest.raises(InvalidInput):
            apply_import(imported, actor=acme.actor, slug="more", chosen=chosen)


def test_importing_into_a_server_replaces_its_tools_alone(acme: World, filled: Server, imported: Any) -> None:
    from servers.services import apply_import, draft_manifest

    apply_import(imported, actor=acme.actor, server=filled)
    draft = draft_manifest(filled)
    assert len(draft["tools"]) == 2
    assert "find" not in {tool["name"] for tool in draft["tools"]}
    for part in ("server", "resources", "resource_templates", "prompts"):
        assert draft[part] == EVERYTHING[part]


def test_an_import_that_was_not_read_cannot_be_applied(acme: World) -> None:
    from servers.services import apply_import, start_import

    started = start_import(acme.acme, actor=acme.actor, name="x", document=DOCUMENT, url=None)
    with pytest.raises(Conflict, match="not been read"):
        apply_import(started, actor=acme.actor, slug="pets")
