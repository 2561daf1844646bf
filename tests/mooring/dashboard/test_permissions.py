"""Who may open what: every address of the dashboard stands in the table, once for each role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from django.urls import URLPattern, URLResolver

from mooring.dashboard import urls

if TYPE_CHECKING:
    from django.test import Client

    from tests.mooring.dashboard.conftest import Stage

# name: (method, path below the organisation, status for owner, developer, viewer)
TABLE: dict[str, tuple[str, str, int, int, int]] = {
    "overview": ("GET", "", 200, 200, 200),
    "servers": ("GET", "servers/", 200, 200, 200),
    "new_server": ("GET", "servers/new/", 200, 200, 403),
    "new_from_openapi": ("GET", "servers/new/openapi/", 200, 200, 403),
    "new_with_tools": ("GET", "servers/new/tools/", 200, 200, 403),
    "new_with_content": ("GET", "servers/new/content/", 200, 200, 403),
    "new_from_template": ("GET", "servers/new/template/echo/", 200, 200, 403),
    "import": ("GET", "imports/{imported}/", 200, 200, 403),
    "keys": ("GET", "keys/", 200, 200, 403),
    "new_key": ("GET", "keys/new/", 200, 200, 403),
    "calls": ("GET", "calls/", 200, 200, 200),
    "audit": ("GET", "audit/", 200, 403, 403),
    "settings": ("GET", "settings/", 200, 200, 200),
    "server": ("GET", "servers/sky/", 200, 200, 200),
    "server_settings": ("GET", "servers/sky/settings/", 200, 200, 200),
    "tools": ("GET", "servers/sky/tools/", 200, 200, 200),
    "new_tool": ("GET", "servers/sky/tools/new/", 200, 200, 403),
    "tool": ("GET", "servers/sky/tools/{tool}/", 200, 200, 200),
    "preview_tool": ("POST", "servers/sky/tools/preview/", 200, 200, 403),
    "toggle_tool": ("POST", "servers/sky/tools/{tool}/toggle/", 302, 302, 403),
    "content": ("GET", "servers/sky/content/", 200, 200, 200),
    "content_list": ("GET", "servers/sky/content/resources/", 200, 200, 200),
    "new_content_row": ("GET", "servers/sky/content/prompts/new/", 200, 200, 403),
    "content_row": ("GET", "servers/sky/content/templates/{template}/", 200, 200, 200),
    "secrets": ("GET", "servers/sky/secrets/", 200, 200, 200),
    "delete_secret": ("POST", "servers/sky/secrets/delete/", 404, 404, 403),
    "variables": ("POST", "servers/sky/secrets/variables/", 422, 422, 403),
    "live_variables": ("POST", "servers/sky/secrets/live/", 302, 302, 403),
    "playground": ("GET", "servers/sky/playground/", 200, 200, 403),
    "run_playground": ("GET", "servers/sky/playground/run/", 404, 404, 403),
    "versions": ("GET", "servers/sky/versions/", 200, 200, 200),
    "import_manifest": ("GET", "servers/sky/versions/import/", 200, 200, 403),
    "draft_file": ("GET", "servers/sky/versions/draft.json", 200, 200, 200),
    "version": ("GET", "servers/sky/versions/1.0.0/", 200, 200, 200),
    "make_live": ("POST", "servers/sky/versions/1.0.0/live/", 302, 302, 403),
    "version_file": ("GET", "servers/sky/versions/1.0.0/manifest.yaml", 200, 200, 200),
    "connect": ("GET", "servers/sky/connect/", 200, 200, 200),
    # What ends something stands last.
    "delete_tool": ("POST", "servers/sky/tools/{tool}/delete/", 302, 302, 403),
    "delete_content_row": ("POST", "servers/sky/content/prompts/{prompt}/delete/", 302, 302, 403),
    "revoke_key": ("POST", "keys/{key}/revoke/", 302, 302, 403),
    "delete_server": ("POST", "servers/sky/delete/", 302, 403, 403),
}
# Addresses which belong to no organisation; they have tests of their own.
OUTSIDE = {"home", "inbox", "choose", "new_organisation", "public"}


def _names(patterns: list[URLPattern | URLResolver]) -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _names(pattern.url_patterns)
        else:
            yield str(pattern.name)


def test_every_address_stands_in_the_table() -> None:
    assert set(_names(urls.urlpatterns)) == set(TABLE) | OUTSIDE


def _ask(client: Client, stage: Stage, name: str) -> int:
    method, path, *_ = TABLE[name]
    ids = {field: getattr(stage, field) for field in ("imported", "tool", "template", "prompt", "key")}
    url = stage.base + path.format(**ids)
    return client.get(url).status_code if method == "GET" else client.post(url).status_code


@pytest.mark.parametrize(("column", "who"), [(2, "alice"), (3, "dora"), (4, "bob")])
def test_each_role_gets_what_the_table_says(
    stage: Stage, client_of: Callable[..., Client], column: int, who: str
) -> None:
    client = client_of(getattr(stage.world, who))
    found = {name: _ask(client, stage, name) for name in TABLE}
    assert found == {name: row[column] for name, row in TABLE.items()}


def test_members_of_another_organisation_find_nothing(stage: Stage, client_of: Callable[..., Client]) -> None:
    eve = client_of(stage.world.eve)
    assert {_ask(eve, stage, name) for name in TABLE} == {404}


def test_rows_of_another_organisation_are_missing_in_ones_own(
    stage: Stage, client_of: Callable[..., Client]
) -> None:
    eve = client_of(stage.world.eve)
    own = f"/app/{stage.world.globex.slug}/"
    paths = ["servers/sky/", f"imports/{stage.imported}/", "servers/sky/tools/"]
    assert [eve.get(own + path).status_code for path in paths] == [404, 404, 404]
    assert eve.post(f"{own}keys/{stage.key}/revoke/").status_code == 404


def test_strangers_are_sent_to_sign_in_and_back(stage: Stage, client: Client) -> None:
    methods = {name: row[0] for name, row in TABLE.items()}
    for name, method in methods.items():
        status = _ask(client, stage, name)
        assert status == (302 if method == "GET" else status), name
        assert status in {302, 405}, name
    answer = client.get(stage.base + "keys/")
    assert answer["Location"] == f"/accounts/login/?next={stage.base}keys/"


def test_viewers_are_offered_nothing_they_may_not_do(stage: Stage, client_of: Callable[..., Client]) -> None:
    bob = client_of(stage.world.bob)
    pages = [
        "",
        "servers/",
        "servers/sky/",
        "servers/sky/tools/",
        "servers/sky/versions/",
        "servers/sky/secrets/",
    ]
    text = "".join(bob.get(stage.base + page).content.decode() for page in pages)
    for offer in (
        "New server",
        "New HTTP tool",
        "Publish…",
        "Disable<",
        "Set the secret",
        "API keys<",
        "Audit log<",
    ):
        assert offer not in text


@pytest.mark.parametrize("method", ["settings/", "servers/sky/settings/", "servers/sky/versions/"])
def test_viewers_see_the_form_but_may_not_send_it(
    stage: Stage, client_of: Callable[..., Client], method: str
) -> None:
    bob = client_of(stage.world.bob)
    assert bob.post(stage.base + method, {"name": "x", "title": "x", "number": "9.9.9"}).status_code == 403
