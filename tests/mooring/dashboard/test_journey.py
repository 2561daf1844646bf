"""What a new user does, page by page, over HTTP."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from mooring.scope import tenant_scope
from tests.mooring.dashboard.conftest import DOCUMENT, errors_of, fields_of, tool_definition

if TYPE_CHECKING:
    from django.test import Client

    from tests.conftest import World
    from tests.mooring.dashboard.conftest import Stage


def test_a_new_user_signs_up_with_a_code_from_the_inbox_and_names_the_organisation(client: Client) -> None:
    mark = secrets.token_hex(4)
    answer = client.post(
        "/accounts/signup/", {"email": f"new-{mark}@example.com", "password1": "correct horse battery"}
    )
    assert answer.status_code == 302
    from django.core import mail

    code = re.findall(r"(?m)^(\d{6})$", str(mail.outbox[-1].body))[0]
    answer = client.post(answer["Location"], {"code": code})
    assert answer.status_code == 302
    assert client.get("/").headers["Location"] == "/app/"
    assert client.get("/app/")["Location"] == "/app/new/"
    answer = client.post("/app/new/", {"name": f"Team {mark}", "slug": ""})
    assert answer["Location"] == f"/app/team-{mark}/"
    page = client.get(answer["Location"]).content
    assert b"What to do next" in page
    assert client.get("/app/")["Location"] == f"/app/team-{mark}/"


def test_a_taken_name_says_so_at_the_form(world: World, client_of: Callable[..., Client]) -> None:
    answer = client_of(world.eve).post("/app/new/", {"name": "Mine", "slug": world.acme.slug})
    assert answer.status_code == 422
    assert b"is taken" in answer.content


def test_people_of_several_organisations_choose(world: World, client_of: Callable[..., Client]) -> None:
    from tenants.services import add_member

    with tenant_scope(world.globex.id):
        add_member(world.globex, user=world.alice, role="viewer", actor=world.actor)
    page = client_of(world.alice).get("/app/").content.decode()
    assert world.acme.slug in page
    assert world.globex.slug in page


@pytest.mark.parametrize("way", ["tools", "content"])
def test_a_server_is_made_by_form(stage: Stage, alice: Client, way: str) -> None:
    answer = alice.post(f"{stage.base}servers/new/{way}/", {"name": "My Sky", "slug": "", "description": "x"})
    assert answer["Location"].startswith(f"{stage.base}servers/my-sky/{way}/")
    again = alice.post(f"{stage.base}servers/new/{way}/", {"name": "My Sky", "slug": "my-sky"})
    assert again.status_code == 422
    assert b"taken" in again.content


@pytest.mark.parametrize("template", ["weather", "handbook", "echo"])
def test_a_server_is_made_from_a_template(stage: Stage, alice: Client, template: str) -> None:
    answer = alice.post(f"{stage.base}servers/new/template/{template}/", {"slug": template})
    assert answer["Location"] == f"{stage.base}servers/{template}/"
    assert alice.get(answer["Location"]).status_code == 200


def test_a_document_is_uploaded_read_and_chosen_from(
    stage: Stage, alice: Client, run_jobs: Callable[[], None]
) -> None:
    file = SimpleUploadedFile("pets.json", DOCUMENT.encode())
    answer = alice.post(f"{stage.base}servers/new/openapi/", {"file": file})
    assert re.fullmatch(re.escape(stage.base) + r"imports/[0-9a-f-]{36}/", answer["Location"])
    page = alice.get(answer["Location"]).content.decode()
    assert 'hx-trigger="every 1s"' in page
    assert "<progress" in page

    at = f"{stage.base}imports/{stage.imported}/"
    run_jobs()
    fragment = alice.get(at, headers={"HX-Request": "true"})
    assert (fragment.status_code, fragment["HX-Refresh"]) == (204, "true")
    page = alice.get(at).content.decode()
    assert page.count('name="operation"') == 3
    answer = alice.post(at, {"name": "Pets", "slug": "pets", "operation": ["GET /pets"]})
    assert answer["Location"] == f"{stage.base}servers/pets/"
    tools = alice.get(f"{stage.base}servers/pets/tools/").content.decode()
    assert "list_pets" in tools
    assert "add_pet" not in tools
    assert alice.get(at)["Location"] == f"{stage.base}servers/pets/"


def test_choosing_no_operation_keeps_them_all_and_may_go_into_an_existing_server(
    stage: Stage, alice: Client, run_jobs: Callable[[], None]
) -> None:
    run_jobs()
    answer = alice.post(f"{stage.base}imports/{stage.imported}/", {"into": "sky"})
    assert answer["Location"] == stage.here
    tools = alice.get(f"{stage.here}tools/").content.decode()
    assert all(name in tools for name in ("list_pets", "add_pet", "get_pet"))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Give an address, choose a file or paste"),
        ({"document": "{}", "url": "https://example.com/x"}, "not in several"),
        ({"url": "ftp://example.com/x"}, "errorlist"),
        ({"file": SimpleUploadedFile("x", b"\xff\xfe\x00")}, "not text in UTF-8"),
    ],
)
def test_a_document_that_cannot_be_taken_is_refused_at_the_form(
    stage: Stage, alice: Client, fields: dict[str, Any], sentence: str
) -> None:
    answer = alice.post(f"{stage.base}servers/new/openapi/", fields)
    assert answer.status_code == 422
    assert sentence in answer.content.decode()


def test_saving_a_tool_unchanged_changes_nothing(stage: Stage, alice: Client) -> None:
    """The form knows every part of a request template, so that saving never loses one."""
    at = f"{stage.here}tools/{stage.tool}/"
    before = alice.get(f"{stage.here}versions/draft.json").json()
    answer = alice.post(at, fields_of(alice.get(at).content.decode()))
    assert answer.status_code == 302, errors_of(answer)
    assert alice.get(f"{stage.here}versions/draft.json").json() == before
    assert before["tools"] == [tool_definition()]


@pytest.mark.parametrize("kind", ["resources", "templates", "prompts"])
def test_saving_content_unchanged_changes_nothing(stage: Stage, alice: Client, kind: str) -> None:
    at = f"{stage.here}content/{kind}/{getattr(stage, kind[:-1])}/"
    before = alice.get(f"{stage.here}versions/draft.json").json()
    answer = alice.post(at, fields_of(alice.get(at).content.decode()))
    assert answer.status_code == 302, errors_of(answer)
    assert alice.get(f"{stage.here}versions/draft.json").json() == before


def _new_tool(alice: Client, stage: Stage, **fields: str) -> Any:
    page = alice.get(f"{stage.here}tools/new/").content.decode()
    return alice.post(f"{stage.here}tools/new/", fields_of(page) | fields)


def test_a_tool_written_by_form_gets_a_schema_from_its_request(stage: Stage, alice: Client) -> None:
    answer = _new_tool(
        alice,
        stage,
        name="by_form",
        url="{base}/v1/{place}/sky",
        **{"parameters-0-argument": "days", "parameters-0-where": "query"},
    )
    assert answer.status_code == 302
    tool = next(
        tool
        for tool in alice.get(f"{stage.here}versions/draft.json").json()["tools"]
        if tool["name"] == "by_form"
    )
    assert tool["http"]["parameters"] == [
        {"in": "query", "name": "days", "argument": "days"},
        {"in": "path", "name": "place", "argument": "place"},
    ]
    assert tool["input_schema"]["required"] == ["place"]
    assert set(tool["input_schema"]["properties"]) == {"days", "place"}


def test_another_row_keeps_what_was_written(stage: Stage, alice: Client) -> None:
    answer = _new_tool(alice, stage, name="half", url="https://x.example", add="parameters")
    page = answer.content.decode()
    assert answer.status_code == 200
    assert 'name="parameters-1-argument"' in page
    assert 'value="half"' in page


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "bad name!", "url": "https://x.example"}, "bad name!"),
        ({"name": "ok", "url": ""}, "Write the address the tool calls."),
        ({"name": "ok", "url": "https://x.example", "input_schema": "{"}, "This is not JSON"),
        ({"name": "ok", "url": "https://x.example", "input_schema": "[]"}, "JSON object in braces"),
        ({"name": "get_sky", "url": "https://x.example"}, "taken"),
        (
            {"name": "ok", "url": "https://x.example", "use_json": "on", "json": ""},
            "Write the request template",
        ),
    ],
)
def test_a_bad_tool_is_refused_with_a_sentence(
    stage: Stage, alice: Client, fields: dict[str, str], sentence: str
) -> None:
    answer = _new_tool(alice, stage, **fields)
    assert answer.status_code == 422
    assert sentence in answer.content.decode()


def test_the_preview_shows_the_request_with_secrets_hidden(stage: Stage, alice: Client) -> None:
    page = fields_of(alice.get(f"{stage.here}tools/{stage.tool}/").content.decode())
    answer = alice.post(f"{stage.here}tools/preview/", page | {"example": '{"city": "New York", "days": 3}'})
    text = answer.content.decode()
    assert "POST https://api.example.com/v1/New%20York?d=3" in text
    assert "how+long=3" in text
    assert "secret:token" not in text
    bad = alice.post(f"{stage.here}tools/preview/", page | {"example": "["}).content.decode()
    assert "notice warning" in bad


def test_a_tool_is_switched_off_and_on_again(stage: Stage, alice: Client) -> None:
    at = f"{stage.here}tools/{stage.tool}/toggle/"
    row = alice.post(at, {"enabled": "no"}, headers={"HX-Request": "true"}).content.decode()
    assert row.startswith("<tr")
    assert ">Enable<" in row
    assert alice.get(f"{stage.here}versions/draft.json").json()["tools"][0]["enabled"] is False
    assert alice.post(at, {"enabled": "yes"}).status_code == 302


def test_a_static_tool_answers_with_a_text(stage: Stage, alice: Client) -> None:
    fields = {"name": "hello", "kind": "text", "text": "Hello {name}\r\n", "is_enabled": "on"}
    schema = '{"type": "object", "properties": {"name": {"type": "string"}}}'
    answer = alice.post(f"{stage.here}tools/new/?kind=static", fields | {"input_schema": schema})
    assert answer.status_code == 302
    tool = alice.get(f"{stage.here}versions/draft.json").json()["tools"][-1]
    assert tool["static"] == {"kind": "text", "text": "Hello {name}\n"}


def test_secrets_are_set_and_never_shown(stage: Stage, alice: Client) -> None:
    assert b"no value" in alice.get(f"{stage.here}secrets/").content
    answer = alice.post(f"{stage.here}secrets/", {"name": "token", "value": "very-secret-value-1234"})
    assert answer.status_code == 302
    page = alice.get(f"{stage.here}secrets/").content.decode()
    assert "very-secret" not in page
    assert "…1234" in page
    assert alice.post(f"{stage.here}secrets/", {"name": "a b", "value": "x"}).status_code == 422
    assert alice.post(f"{stage.here}secrets/delete/", {"name": "token"}).status_code == 302
    assert "…1234" not in alice.get(f"{stage.here}secrets/").content.decode()


def test_variables_are_changed_in_the_draft_and_given_values_in_live(stage: Stage, alice: Client) -> None:
    at = f"{stage.here}secrets/variables/"
    assert alice.post(at, {"name": "other", "default": "x"}).status_code == 302
    assert alice.get(f"{stage.here}versions/draft.json").json()["variables"]["other"] == {"default": "x"}
    assert alice.post(at, {"remove": "other"}).status_code == 302
    assert "other" not in alice.get(f"{stage.here}versions/draft.json").json()["variables"]
    refused = alice.post(at, {"remove": "base"})
    assert refused.status_code == 422, "a tool uses it"
    assert alice.post(f"{stage.here}secrets/live/", {"value.base": "https://live.example"}).status_code == 302
    assert "https://live.example" in alice.get(f"{stage.here}secrets/").content.decode()


def test_publishing_proposes_a_number_shows_what_changed_and_rolls_back(stage: Stage, alice: Client) -> None:
    at = f"{stage.here}versions/"
    assert b"Nothing to publish" in alice.get(at).content
    settings = {"title": "Sky", "description": "New words", "instructions": ""}
    assert alice.post(f"{stage.here}settings/", settings).status_code == 302
    page = alice.get(at).content.decode()
    assert 'value="1.0.1"' in page
    assert 'class="changes"' in page
    assert "What differs in the draft" in alice.get(stage.here).content.decode()
    assert alice.post(at, {"number": "x", "notes": ""}).status_code == 422
    assert alice.post(at, {"number": "1.0.1", "notes": "Words"}).status_code == 302
    assert alice.post(f"{at}1.0.0/live/").status_code == 302
    page = alice.get(f"{at}1.0.0/").content.decode()
    assert "badge good" in page
    assert "Since 1.0.0" in alice.get(f"{at}1.0.1/").content.decode()


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_a_manifest_goes_out_and_comes_in_again_without_loss(
    stage: Stage, alice: Client, kind: str, run_jobs: Callable[[], None]
) -> None:
    before = alice.get(f"{stage.here}versions/draft.{kind}")
    assert "attachment" in before["Content-Disposition"]
    alice.post(f"{stage.here}tools/{stage.tool}/delete/")
    alice.post(f"{stage.here}settings/", {"title": "Other"})
    file = SimpleUploadedFile("draft", before.content)
    answer = alice.post(f"{stage.here}versions/import/", {"file": file})
    assert answer.status_code == 302
    if kind == "yaml":
        run_jobs()
        assert alice.post(answer["Location"]).status_code == 302
    assert alice.get(f"{stage.here}versions/draft.{kind}").content == before.content
    assert alice.get(f"{stage.here}versions/1.0.0/manifest.{kind}").content == before.content


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "JSON is broken"),
        ("{a: [}", "JSON is broken"),
        ('{"mooring": 1}', "server"),
        ("", "Choose a file or paste"),
    ],
)
def test_a_bad_manifest_is_refused_with_a_sentence(
    stage: Stage, alice: Client, text: str, sentence: str
) -> None:
    answer = alice.post(f"{stage.here}versions/import/", {"document": text})
    assert answer.status_code == 422
    assert sentence in answer.content.decode()


def test_a_key_is_shown_once_scoped_and_revoked(stage: Stage, alice: Client) -> None:
    fields = {"name": "ci", "scopes": ["servers:call"], "servers": [stage.server_id], "lifetime": "30"}
    answer = alice.post(f"{stage.base}keys/new/", fields)
    key = re.search(r"moor_[0-9A-Za-z]{38}", answer.content.decode())
    assert key is not None
    assert "no-store" in answer["Cache-Control"]
    page = alice.get(f"{stage.base}keys/").content.decode()
    assert key[0] not in page
    assert key[0][:12] in page
    assert alice.post(f"{stage.base}keys/{stage.key}/revoke/").status_code == 302
    assert "revoked" in alice.get(f"{stage.base}keys/").content.decode()


def test_nobody_gives_a_key_more_than_they_may(stage: Stage, client_of: Callable[..., Client]) -> None:
    dora = client_of(stage.world.dora)
    fields = {"name": "x", "scopes": ["audit:read"], "lifetime": "30"}
    assert dora.post(f"{stage.base}keys/new/", fields).status_code == 422


def test_changes_appear_in_the_audit_log_with_before_and_after(stage: Stage, alice: Client) -> None:
    alice.post(f"{stage.base}settings/", {"name": "Acme & Sons"})
    page = alice.get(f"{stage.base}audit/?action=tenant.renamed").content.decode()
    assert "tenant.renamed" in page
    assert "Acme &amp; Sons" in page
    assert stage.world.alice.email in page
    assert "127.0.0.1" in page
    assert "No entry matches" in alice.get(f"{stage.base}audit/?actor=nobody").content.decode()


def test_a_deleted_server_is_gone(stage: Stage, alice: Client) -> None:
    assert alice.post(f"{stage.here}delete/").status_code == 302
    assert alice.get(stage.here).status_code == 404
    assert "No servers yet" in alice.get(f"{stage.base}servers/").content.decode()


def test_json_of_the_draft_is_the_manifest(stage: Stage, alice: Client) -> None:
    manifest = json.loads(alice.get(f"{stage.here}versions/draft.json").content)
    assert manifest["mooring"] == 1
    assert [prompt["name"] for prompt in manifest["prompts"]] == ["plan"]
