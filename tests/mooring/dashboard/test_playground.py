"""The playground is an MCP client: a small gateway of this test's own sees what it sends."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from mooring.dashboard.answer_content import MOST_BYTES
from mooring.dashboard.forms.arguments import ArgumentsForm
from tenants.playground_tokens import read

if TYPE_CHECKING:
    from django.test import Client
    from pytest_django.fixtures import SettingsWrapper

    from tests.mooring.dashboard.conftest import Stage


class Gateway(ThreadingHTTPServer):
    """Remembers requests and answers what it was told to."""

    seen: list[tuple[str, dict[str, str], Any]]
    answer: tuple[int, bytes]


class Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), json.loads(body)))
        status, answer = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def gateway(settings: SettingsWrapper) -> Iterator[Gateway]:
    server = Gateway(("127.0.0.1", 0), Handler)
    server.seen, server.answer = [], (200, b"{}")
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    settings.GATEWAY_URL = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _result(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", **fields}}).encode()


def test_the_form_is_drawn_from_the_schema_and_calls_the_draft(
    stage: Stage, alice: Client, gateway: Gateway
) -> None:
    page = alice.get(f"{stage.here}playground/?tool=get_sky").content.decode()
    assert 'name="arg.city"' in page
    assert 'name="arg.days"' in page
    gateway.answer = (
        200,
        _result(content=[{"type": "text", "text": "<i>Sunny</i>"}], structuredContent={"a": 1}),
    )
    answer = alice.post(
        f"{stage.here}playground/run/", {"tool": "get_sky", "arg.city": "Oslo", "arg.days": "3"}
    ).content.decode()
    assert "&lt;i&gt;Sunny&lt;/i&gt;" in answer
    assert "badge good" in answer
    path, headers, body = gateway.seen[0]
    assert path == f"/t/{stage.world.acme.slug}/sky@draft/mcp"
    assert body["params"]["arguments"] == {"city": "Oslo", "days": 3}
    assert headers["Mcp-Method"] == "tools/call"
    assert headers["Mcp-Name"] == "get_sky"
    assert headers["MCP-Protocol-Version"] == "2026-07-28"
    known = read(headers["Authorization"].removeprefix("Bearer "))
    assert known is not None
    assert known.user == stage.world.alice.pk
    assert str(known.server) == stage.server_id


def test_pictures_and_sounds_are_in_the_page_and_other_files_are_offered(
    stage: Stage, alice: Client, gateway: Gateway
) -> None:
    at, fields = f"{stage.here}playground/run/", {"tool": "get_sky", "arg.city": "Oslo"}
    small, large = b64encode(b"picture").decode(), b64encode(bytes(MOST_BYTES + 1)).decode()
    gateway.answer = (
        200,
        _result(
            content=[
                {"type": "image", "mimeType": "image/png", "data": small},
                {"type": "audio", "mimeType": "audio/mpeg", "data": small},
                {"type": "image", "mimeType": 'image/svg+xml"><script>', "data": small},
                {"type": "resource_link", "uri": "sky://far", "name": "far"},
                {"type": "resource", "resource": {"uri": "sky://near", "text": "near"}},
                {"type": "image", "mimeType": "image/png", "data": large},
                {"type": "image", "mimeType": "image/png", "data": "no base64!"},
                "nonsense",
            ]
        ),
    )
    answer = alice.post(at, fields, headers={"HX-Request": "true"}).content.decode()
    drawn = answer.partition("The whole answer")[0]
    assert f'<img src="data:image/png;base64,{small}"' in drawn
    assert f'<audio controls src="data:audio/mpeg;base64,{small}"' in drawn
    assert drawn.count("<img") == 1
    assert drawn.count("Download") == 3
    assert "too large to be shown" in drawn
    assert "<script" not in drawn
    for word in ("sky://far", "sky://near", "near</code>"):
        assert word in drawn
    assert len(drawn) < 20_000
    page = alice.get(f"{stage.here}playground/")
    assert "media-src data:" in page["Content-Security-Policy"]
    assert "media-src" not in alice.get(stage.here)["Content-Security-Policy"]


def test_a_failure_of_the_tool_and_a_refusal_are_told_apart(
    stage: Stage, alice: Client, gateway: Gateway
) -> None:
    at, fields = f"{stage.here}playground/run/", {"tool": "get_sky", "arg.city": "Oslo"}
    gateway.answer = (200, _result(content=[{"type": "text", "text": "no"}], isError=True))
    assert b"the tool says it failed" in alice.post(at, fields).content
    gateway.answer = (429, b'{"jsonrpc":"2.0","id":1,"error":{"code":429,"message":"slow down"}}')
    answer = alice.post(at, fields, headers={"HX-Request": "true"}).content.decode()
    assert "refused" in answer
    assert "slow down" in answer
    assert "<html" not in answer
    gateway.answer = (502, b"<html>not JSON</html>")
    assert "&lt;html&gt;not JSON" in alice.post(at, fields).content.decode()


def test_a_gateway_that_is_gone_is_a_sentence(stage: Stage, alice: Client, settings: SettingsWrapper) -> None:
    settings.GATEWAY_URL = "http://127.0.0.1:9"
    answer = alice.post(f"{stage.here}playground/run/", {"tool": "get_sky"})
    assert answer.status_code == 503
    assert b"did not answer" in answer.content


def test_what_does_not_fit_the_field_is_not_sent(stage: Stage, alice: Client, gateway: Gateway) -> None:
    answer = alice.post(f"{stage.here}playground/run/", {"tool": "get_sky", "arg.days": "many"})
    assert answer.status_code == 422
    assert b"Write a whole number." in answer.content
    assert gateway.seen == []


SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "big": {"type": "integer"},
        "share": {"type": ["number", "null"]},
        "yes": {"type": "boolean"},
        "pick": {"enum": [1, "one", None]},
        "list": {"type": "array"},
        "odd": True,
    },
}


@pytest.mark.parametrize(
    ("sent", "arguments"),
    [
        ({}, {}),
        ({"arg.text": " a "}, {"text": " a "}),
        ({"arg.big": "9007199254740993"}, {"big": 9007199254740993}),
        ({"arg.share": "0.5"}, {"share": 0.5}),
        ({"arg.yes": "false"}, {"yes": False}),
        ({"arg.pick": '"one"', "arg.odd": "null"}, {"pick": "one"}),
        ({"arg.list": "[1, {}]"}, {"list": [1, {}]}),
        ({"arg.big": "x", "raw": '{"any": 1}'}, {"any": 1}),
    ],
)
def test_arguments_keep_their_types(sent: dict[str, str], arguments: dict[str, Any]) -> None:
    form = ArgumentsForm(SCHEMA, sent)
    assert form.is_valid(), form.errors
    assert form.arguments() == arguments


@pytest.mark.parametrize(
    "schema", [{}, {"properties": []}, {"properties": {"a": 1}, "required": 3}, {"type": 1}]
)
def test_odd_schemas_make_forms_too(schema: dict[str, Any]) -> None:
    assert ArgumentsForm(schema, {}).is_valid()
