"""A stage for the dashboard: one server with everything on it, and the addresses of all pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from django.test import Client

    from tests.conftest import World

EVIL = "<script>alert(1)</script><b onload=x>&\"'"


@dataclass(frozen=True, slots=True)
class Stage:
    """`base` is the organisation's address and `server` the server's; the rest are ids."""

    world: World
    base: str
    server: str
    server_id: str
    tool: str
    resource: str
    template: str
    prompt: str
    key: str
    imported: str

    @property
    def here(self) -> str:
        return f"{self.base}servers/{self.server}/"


DOCUMENT = """{"openapi": "3.1.0", "info": {"title": "Pets", "version": "1"},
 "servers": [{"url": "https://pets.example.com"}],
 "paths": {"/pets": {"get": {"operationId": "list_pets", "summary": "All pets", "responses": {}},
                     "post": {"operationId": "add_pet", "responses": {}}},
           "/pets/{id}": {"get": {"operationId": "get_pet", "responses": {},
             "parameters": [{"in": "path", "name": "id", "required": true, "schema": {"type": "string"}}]}}}}"""


@pytest.fixture
def stage(world: World) -> Stage:
    from mooring.scope import tenant_scope
    from servers.services import (
        create_server,
        publish,
        save_prompt,
        save_resource,
        save_template,
        save_tool,
        start_import,
        update_server,
    )
    from tenants.services import create_key

    actor = world.actor
    with tenant_scope(world.acme.id):
        server = create_server(world.acme, slug="sky", title=f"Sky {EVIL}", description=EVIL, actor=actor)
        update_server(server, actor=actor, variables={"base": {"default": "https://api.example.com"}})
        tool = save_tool(server, actor=actor, tool=None, definition=tool_definition())
        resource = save_resource(
            server, actor=actor, row=None, definition={"name": "Hours", "uri": "sky://hours", "text": EVIL}
        )
        template = save_template(
            server,
            actor=actor,
            row=None,
            definition={
                "name": "city",
                "uri_template": "sky://{city}",
                "text": "{city}",
                "description": EVIL,
            },
        )
        prompt = save_prompt(
            server,
            actor=actor,
            row=None,
            definition={
                "name": "plan",
                "title": EVIL,
                "arguments": [{"name": "city", "required": True, "completions": ["Oslo", "Rome, Italy"]}],
                "messages": [{"role": "user", "text": "Plan a day in {city}."}],
            },
        )
        publish(server, actor=actor, notes=EVIL)
        key = create_key(world.acme, name=EVIL[:100], user=world.alice, actor=actor).row
        imported = start_import(world.acme, actor=actor, name=f"pets {EVIL}", document=DOCUMENT, url=None)
    return Stage(
        world,
        f"/app/{world.acme.slug}/",
        "sky",
        str(server.id),
        str(tool.id),
        str(resource.id),
        str(template.id),
        str(prompt.id),
        str(key.id),
        str(imported.id),
    )


def tool_definition() -> dict[str, object]:
    """Every part of a request template that the form knows."""
    return {
        "name": "get_sky",
        "title": EVIL,
        "description": EVIL,
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": EVIL}, "days": {"type": "integer"}},
            "required": ["city"],
        },
        "output_schema": {"type": "object"},
        "annotations": {"readOnlyHint": True, "destructiveHint": False, "x-own": 1},
        "http": {
            "method": "POST",
            "url": "{base}/v1/{city}",
            "parameters": [
                {"in": "path", "name": "city", "argument": "city"},
                {"in": "query", "name": "d", "argument": "days", "style": "spaceDelimited", "explode": True},
            ],
            "constants": [{"in": "header", "name": "Authorization", "value": "Bearer {secret:token}"}],
            "basic_auth": {"username": "{secret:user}", "password": "{secret:pass}"},
            "body": {
                "content_type": "application/x-www-form-urlencoded",
                "fields": {"how long": "days"},
                "required": True,
            },
            "response": {"as": "json", "pick": "/data"},
            "timeout_seconds": 5,
        },
    }


@pytest.fixture
def alice(stage: Stage, client_of: Callable[..., Client]) -> Client:
    """The owner's browser."""
    return client_of(stage.world.alice)


@pytest.fixture
def run_jobs(stage: Stage) -> Callable[[], None]:
    """Does what workers would do for the organisation."""

    def run() -> None:
        from mooring import jobs
        from mooring.jobs.models import Job
        from mooring.scope import tenant_scope
        from servers import tasks

        assert tasks  # registers the kinds of work
        with tenant_scope(stage.world.acme.id):
            waiting = list(Job.objects.filter(state="waiting").values_list("id", flat=True))
        for job in waiting:
            jobs.run(job)

    return run


def fields_of(text: str) -> dict[str, Any]:
    """What a browser would send of the form in the page's content, unchanged."""
    form = _Form()
    form.feed(text)
    return form.found


class _Form(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Any] = {}
        self.textarea = self.select = ""
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = self.inside or tag == "main"
        at = {name: value or "" for name, value in attrs}
        if self.inside and tag in {"input", "textarea", "select", "option"}:
            getattr(self, f"_{tag}")(at)

    def _input(self, at: dict[str, str]) -> None:
        kind = at.get("type", "text")
        if "name" in at and (kind not in {"checkbox", "radio", "file"} or "checked" in at):
            self.found[at["name"]] = at.get("value", "on" if kind == "checkbox" else "")

    def _textarea(self, at: dict[str, str]) -> None:
        if "name" in at:
            self.textarea, self.found[at["name"]] = at["name"], ""

    def _select(self, at: dict[str, str]) -> None:
        self.select = at["name"]

    def _option(self, at: dict[str, str]) -> None:
        if self.select and ("selected" in at or self.select not in self.found):
            self.found[self.select] = at.get("value", "")

    def handle_data(self, data: str) -> None:
        if self.textarea:
            # HTML drops the first line end after <textarea>.
            before = self.found[self.textarea]
            self.found[self.textarea] = before + (data if before else data.removeprefix("\n"))

    def handle_endtag(self, tag: str) -> None:
        self.textarea = "" if tag == "textarea" else self.textarea
        self.select = "" if tag == "select" else self.select


def errors_of(answer: Any) -> list[str]:
    """What the forms of a page complain about."""
    return re.findall(r"errorlist.*?</ul>", answer.content.decode(), re.DOTALL)
