"""What holds for every page: nothing inline, everything escaped, every field labelled, headers set."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from django.test import Client
    from pytest_django.fixtures import SettingsWrapper

    from tests.mooring.dashboard.conftest import Stage

PAGES = [
    "",
    "servers/",
    "servers/new/",
    "servers/new/openapi/",
    "servers/new/remote/",
    "servers/new/code/",
    "servers/new/tools/",
    "servers/new/template/weather/",
    "imports/",
    "imports/{imported}/",
    "keys/",
    "keys/new/",
    "calls/",
    "audit/",
    "settings/",
    "servers/sky/",
    "servers/sky/settings/",
    "servers/sky/tools/",
    "servers/sky/tools/new/",
    "servers/sky/tools/new/?kind=static",
    "servers/sky/tools/{tool}/",
    "servers/sky/content/",
    "servers/sky/content/prompts/",
    "servers/sky/content/resources/{resource}/",
    "servers/sky/content/templates/{template}/",
    "servers/sky/content/prompts/{prompt}/",
    "servers/sky/secrets/",
    "servers/sky/upstreams/",
    "servers/sky/code/",
    "servers/sky/code/logs/",
    "servers/sky/operations/",
    "servers/sky/members/",
    "servers/sky/playground/",
    "servers/sky/versions/",
    "servers/sky/versions/1.0.0/",
    "servers/sky/versions/import/",
    "servers/sky/connect/",
]
OPEN = [
    "/",
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/login/code/",
    "/accounts/password/reset/",
    "/inbox/",
]


class Page(HTMLParser):
    """Collects what a page must not have, and its fields and labels."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.fields: list[tuple[str, dict[str, str | None]]] = []
        self.labels: set[str] = set()
        self.depth = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.inline += [f"{tag} {name}" for name in found if name == "style" or name.startswith("on")]
        self.inline += [tag] if tag == "style" or (tag == "script" and "src" not in found) else []
        self.ids += [str(found["id"])] if "id" in found else []
        self.depth += tag == "label"
        if tag == "label" and found.get("for"):
            self.labels.add(str(found["for"]))
        if (
            tag in {"input", "select", "textarea"}
            and found.get("type") not in {"hidden", "submit"}
            and not self.depth
        ):
            self.fields.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag == "label"

    @property
    def unlabelled(self) -> list[dict[str, str | None]]:
        return [f for _, f in self.fields if f.get("id") not in self.labels and not f.get("aria-label")]


def faults_of(answer: Any) -> list[object]:
    text = answer.content.decode()
    page = Page(text)
    twice = {found for found in page.ids if page.ids.count(found) > 1}
    raw = [evil for evil in ("<script>alert(1)</script>", "<b onload") if evil in text]
    status = [] if answer.status_code == 200 else [answer.status_code]
    return [*status, *page.inline, *page.unlabelled, *twice, *raw]


def test_pages_have_nothing_inline_and_everything_escaped_and_labelled(
    stage: Stage, alice: Client, run_jobs: Callable[[], None]
) -> None:
    run_jobs()
    names = {name: getattr(stage, name) for name in stage.__slots__}
    faults = {page: faults_of(alice.get(stage.base + page.format(**names))) for page in PAGES}
    assert {page: found for page, found in faults.items() if found} == {}


def test_pages_before_signing_in_are_as_clean(client: Client, inbox: None) -> None:
    faults = {page: faults_of(client.get(page)) for page in OPEN}
    assert {page: found for page, found in faults.items() if found} == {}


@pytest.fixture
def inbox(settings: SettingsWrapper) -> None:
    """An installation without a mail server."""
    settings.EMAIL_BACKEND = "mooring.accounts.mail.DevelopmentInbox"


def test_answers_carry_a_policy_and_a_request_id(client: Client) -> None:
    answer = client.get("/")
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert re.fullmatch(r"[0-9a-f]{32}", answer["X-Request-Id"])


def test_missing_pages_say_so_in_our_look(client: Client) -> None:
    answer = client.get("/nothing/here")
    assert answer.status_code == 404
    assert b"Nothing here" in answer.content


def test_domain_errors_become_pages_with_their_status(stage: Stage, alice: Client) -> None:
    answer = alice.get(f"{stage.base}servers/none/")
    assert answer.status_code == 404
    assert b"There is no server by that name." in answer.content


def test_htmx_gets_a_note_for_the_top_of_the_page_instead(stage: Stage, alice: Client) -> None:
    answer = alice.get(f"{stage.base}servers/none/", headers={"HX-Request": "true"})
    assert answer.status_code == 404
    assert answer["HX-Retarget"] == "#messages"
    assert b"<html" not in answer.content
    assert b"There is no server by that name." in answer.content


def test_a_bug_answers_with_a_page_that_names_the_request() -> None:
    from django.test import RequestFactory

    from mooring.dashboard.views.faults import server_error
    from mooring.logs import request_id

    token = request_id.set("abc123")
    answer = server_error(RequestFactory().get("/"))
    request_id.reset(token)
    assert answer.status_code == 500
    assert b"abc123" in answer.content


def test_the_theme_is_drawn_by_the_server(client: Client) -> None:
    client.cookies["theme"] = "dark"
    assert b'data-theme="dark"' in client.get("/").content
    client.cookies["theme"] = '"><script>'
    assert b"data-theme" not in client.get("/").content.split(b"<body")[0]


def test_lists_answer_htmx_with_the_list_alone(stage: Stage, alice: Client) -> None:
    answer = alice.get(f"{stage.base}servers/?q=sk", headers={"HX-Request": "true"})
    assert b'id="list"' in answer.content
    assert b"<html" not in answer.content
    assert "HX-Request" in answer["Vary"]


def test_the_inbox_is_closed_to_other_machines_and_to_proxies(client: Client, inbox: None) -> None:
    assert client.get("/inbox/").status_code == 200
    assert client.get("/inbox/", REMOTE_ADDR="10.0.0.5").status_code == 404
    assert client.get("/inbox/", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 404


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example", "javascript:alert(1)"])
def test_the_inbox_leads_back_to_the_page_that_led_to_it_and_nowhere_else(
    client: Client, inbox: None, elsewhere: str
) -> None:
    back = 'href="/accounts/signup/"'
    assert f"/inbox/?from=/accounts/signup/{chr(34)}" in client.get("/accounts/signup/").text
    assert back in client.get("/inbox/", {"from": "/accounts/signup/"}).text
    assert f'href="{elsewhere}' not in client.get("/inbox/", {"from": elsewhere}).text


def test_without_a_development_inbox_there_is_no_such_page(client: Client) -> None:
    assert client.get("/inbox/").status_code == 404
