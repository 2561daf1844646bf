"""Each operation of an awkward document, imported and called: the origin understands by the document what was meant."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.scope import tenant_scope
from servers import services
from servers.importers.documents import parse
from servers.importers.openapi import import_openapi
from servers.models import Server
from tests.conftest import make_world
from tests.contract import Breach, Contract, Given, Origin, contracted
from tests.origin import PNG
from tests.product.processes import host, key_for
from tests.servers.conftest import GatewayDriver

DOCUMENTS = Path(__file__).parents[2] / "documents"
SHIP = {"id": "S1", "name": "Aurora", "flag": None, "sisters": [{"id": "S2", "name": "Boreas"}]}
SECRETS = {
    "harbour_key": "key of the harbour",
    "clerk_username": "clerk-of-the-port",
    "clerk_password": "päss:word",
    "port_login": "token-of-the-port",
}
CREDENTIALS = {
    "harbourKey": SECRETS["harbour_key"],
    "clerk": f"{SECRETS['clerk_username']}:{SECRETS['clerk_password']}",
    "portLogin": SECRETS["port_login"],
}
NASTY = "50% of a/b & c=d, é + “x”"
UUID = "7d9f6d0e-3d34-4c8e-9a52-9d6c2f4f9b11"
FILE = bytes(range(256))
Case = tuple[str, str, dict[str, Any], Given]


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


NEW_SHIP = {
    "name": NASTY,
    "flag": None,
    "tonnage": 0.5,
    "captain": {"name": "Ann"},
    "sisters": [{"name": "B"}],
}
HARBOUR: list[Case] = [
    (
        "list_ships",
        "GET /ships",
        {"limit": 5, "filter_flag": "NO", "area": {"north": 1.5, "south": -2}, "ids": [3, 1], "tags": ["a b", "c&d"],
         "query": {"a": [NASTY, None]}, "X-Trace": UUID, "session": "a;b, c"},
        {
            "query": {"limit": 5, "filter[flag]": "NO", "area": {"north": 1.5, "south": -2}, "ids": [3, 1],
                      "tags": ["a b", "c&d"], "query": {"a": [NASTY, None]}},
            "header": {"X-Trace": UUID},
            "cookie": {"session": "a;b, c"},
        },
    ),
    ("list_ships", "GET /ships", {}, {}),
    (
        "saveShip",
        "POST /ships",
        {"limit": 1} | NEW_SHIP,
        {"query": {"limit": 1}, "body": NEW_SHIP},
    ),
    ("get_ships_by_shipId", "GET /ships/{shipId}", {"shipId": "S1"}, {"path": {"shipId": "S1"}}),
    (
        "put_ships_by_shipId",
        "PUT /ships/{shipId}",
        {"shipId": "S1", "id": NASTY, "name": "Aurora", "note": None, "secretCode": "x"},
        {"path": {"shipId": "S1"}, "query": {"id": NASTY}, "body": {"name": "Aurora", "note": None, "secretCode": "x"}},
    ),
    ("delete_ships_by_shipId", "DELETE /ships/{shipId}", {"shipId": "S1"}, {"path": {"shipId": "S1"}}),
    ("head_ships_by_shipId", "HEAD /ships/{shipId}", {"shipId": "S1"}, {"path": {"shipId": "S1"}}),
    (
        "uploadPapers",
        "POST /ships/{shipId}/papers",
        {"shipId": "S1", "file": encoded(FILE), "pages": [encoded(b"one"), encoded(b"--two\r\n")], "comment": NASTY},
        {"path": {"shipId": "S1"}, "body": {"file": FILE, "pages": [b"one", b"--two\r\n"], "comment": NASTY}},
    ),
    ("downloadPapers", "GET /ships/{shipId}/papers", {"shipId": "S1"}, {"path": {"shipId": "S1"}}),
    ("login", "POST /login", {"user": NASTY, "pin": "0+1"}, {"body": {"user": NASTY, "pin": "0+1"}}),
    ("login", "POST /login", {}, {}),
    ("addNote", "POST /notes", {"body": NASTY}, {"body": {"": NASTY}}),
    ("putNotes", "PUT /notes", {"body": [NASTY, "b"]}, {"body": {"": [NASTY, "b"]}}),
    ("drawNotes", "PATCH /notes", {"body": encoded(PNG)}, {"body": {"": PNG}}),
    (
        "get_cargo_by_base_url_by_bad_name",
        "GET /cargo/{base_url}/{bad name}",
        {"base_url": "https://elsewhere.example", "bad_name": NASTY},
        {"path": {"base_url": "https://elsewhere.example", "bad name": NASTY}},
    ),
    (
        "post_search_mode_full_fragment",
        "POST /search?mode=full#fragment",
        {"body": "mode=brief", "body_body": {"north": 1}},
        {"query": {"body": "mode=brief"}, "body": {"north": 1}},
    ),
]  # fmt: skip
LAMP = {"colour": "red; white", "watts": 40}
ASKED = {"dark": False, "list": ["a&b", NASTY], "lamp": LAMP, "flat": {"a": "x&y", "b": 2}, "spaced": ["a", "b"],
         "piped": [1, 2]}  # fmt: skip
HEADERS = {"X-List": ["a", "b c"], "X-Lamp": LAMP, "X-Plain": LAMP}
COOKIES = {"watch": 3, "flags": ["a", "b c"]}
LIGHTHOUSE: list[Case] = [
    (
        "simplePath",
        "GET /simple/{one}/{list}/{plain}/{burst}",
        {"one": 1.5, "list": ["a,b", NASTY], "plain": LAMP, "burst": LAMP},
        {"path": {"one": 1.5, "list": ["a,b", NASTY], "plain": LAMP, "burst": LAMP}},
    ),
    (
        "labelPath",
        "GET /label/{one}/{list}/{burst}/{lamp}",
        {"one": NASTY, "list": [1, 2], "burst": [3, 4], "lamp": LAMP},
        {"path": {"one": NASTY, "list": [1, 2], "burst": [3, 4], "lamp": LAMP}},
    ),
    (
        "matrixPath",
        "GET /matrix/{one}/{list}/{burst}/{lamp}/{plain}",
        {"one": NASTY, "list": ["a,b", "c"], "burst": ["d;e", "f"], "lamp": LAMP, "plain": LAMP},
        {"path": {"one": NASTY, "list": ["a,b", "c"], "burst": ["d;e", "f"], "lamp": LAMP, "plain": LAMP}},
    ),
    (
        "query",
        "GET /query",
        ASKED,
        {"query": ASKED},
    ),
    (
        "carried",
        "GET /carried",
        HEADERS | COOKIES,
        {"header": HEADERS, "cookie": COOKIES},
    ),
]  # fmt: skip


class Imported:
    """A document whose operations have become the tools of a published server, and its origin."""

    def __init__(self, gateway: GatewayDriver, origin: Origin, address: str, document: Path) -> None:
        self.origin = origin
        manifest = import_openapi(parse(document.read_bytes())).manifest
        for variable in manifest["variables"].values():
            variable["default"] = address + "/" + variable["default"].split("/", 3)[3]
        world = make_world()
        self._gateway, self._at, self._key = gateway, host(world, manifest), key_for(world)
        self.tools = {tool["name"] for tool in manifest["tools"]}
        with tenant_scope(world.acme.id):
            server = Server.objects.get(slug="desk")
            for name in manifest.get("secrets", {}):
                services.set_secret(server, name=name, value=SECRETS[name], actor=world.actor)
        gateway.settle()

    def call(self, tool: str, arguments: dict[str, Any]) -> tuple[Any, tuple[str, Given]]:
        """The result, and what the origin understood."""
        self.origin.understood.clear()
        result = self._gateway.call(self._at, tool, arguments, key=self._key)
        assert not result.get("isError"), result["content"]
        (understood,) = self.origin.understood
        return result, understood


@pytest.fixture(scope="module")
def harbour(gateway: GatewayDriver) -> Iterator[Imported]:
    answers = {"GET /ships": SHIP, "POST /ships": SHIP, "GET /ships/{shipId}": SHIP}
    path = DOCUMENTS / "harbour.yaml"
    with contracted(Contract(path, CREDENTIALS), answers) as (origin, address):
        yield Imported(gateway, origin, address, path)


@pytest.fixture(scope="module")
def lighthouse(gateway: GatewayDriver) -> Iterator[Imported]:
    path = DOCUMENTS / "lighthouse.yaml"
    with contracted(Contract(path, {}), {}) as (origin, address):
        yield Imported(gateway, origin, address, path)


@pytest.mark.parametrize(("tool", "operation", "arguments", "meant"), HARBOUR)
def test_the_harbour_understands_each_call(
    harbour: Imported, tool: str, operation: str, arguments: dict[str, Any], meant: Given
) -> None:
    _, understood = harbour.call(tool, arguments)
    assert understood == (operation, meant)


@pytest.mark.parametrize(("tool", "operation", "arguments", "meant"), LIGHTHOUSE)
def test_the_lighthouse_understands_every_style(
    lighthouse: Imported, tool: str, operation: str, arguments: dict[str, Any], meant: Given
) -> None:
    _, understood = lighthouse.call(tool, arguments)
    assert understood == (operation, meant)


def test_no_operation_goes_uncalled(harbour: Imported, lighthouse: Imported) -> None:
    assert harbour.tools == {tool for tool, *_ in HARBOUR}
    assert lighthouse.tools == {tool for tool, *_ in LIGHTHOUSE}


def test_answers_of_each_kind_come_back(harbour: Imported) -> None:
    ship, _ = harbour.call("get_ships_by_shipId", {"shipId": "S1"})
    assert ship["structuredContent"] == SHIP
    papers, _ = harbour.call("downloadPapers", {"shipId": "S1"})
    resource = papers["content"][0]["resource"]
    assert (resource["mimeType"], base64.b64decode(resource["blob"])) == ("application/pdf", b"%PDF-1.7")
    drawn, _ = harbour.call("drawNotes", {"body": encoded(PNG)})
    assert (drawn["content"][0]["type"], base64.b64decode(drawn["content"][0]["data"])) == ("image", PNG)
    received, _ = harbour.call("uploadPapers", {"shipId": "S1", "file": encoded(b"x")})
    assert received["content"][0]["text"] == "received"


KEY = {"X-Harbour-Key": SECRETS["harbour_key"]}
JSON = KEY | {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "url", "headers", "body", "why"),
    [
        ("GET", "/v2/ships", {}, b"", "the credentials are"),
        ("GET", "/v2/ships", KEY | {"Authorization": "Bearer x"}, b"", "the credentials are"),
        ("POST", "/v2/login", KEY, b"", "the credentials are"),
        ("GET", "/ships", KEY, b"", "no operation"),
        ("POST", "/v2/search", JSON, b"{}", "no operation"),
        ("GET", "/v2/ships/s1", KEY, b"", "shipId in the path"),
        ("GET", "/v2/ships?limit=0", KEY, b"", "limit in the query"),
        ("GET", "/v2/ships?ids=1&ids=2", KEY, b"", "there 2 times"),
        ("GET", "/v2/ships?tags=a,b&tag=c", KEY, b"", "holds what nobody asked for"),
        ("GET", "/v2/ships?area[east]=1", KEY, b"", "holds what nobody asked for"),
        ("GET", "/v2/ships", KEY | {"X-Trace": "no-uuid"}, b"", "X-Trace in the header"),
        ("GET", "/v2/ships", KEY | {"Cookie": "other=1"}, b"", "holds what nobody asked for"),
        ("POST", "/v2/ships", KEY, b"", "the body is missing"),
        ("POST", "/v2/ships", JSON, b'{"id": "S1", "name": "A"}', "only answers hold"),
        ("POST", "/v2/ships", JSON, b'{"tonnage": 1}', "name is missing"),
        ("POST", "/v2/ships", JSON, b'{"name": "A", "tonnage": 0}', "the body"),
        ("POST", "/v2/ships", JSON, b'{"name": "A", "sisters": [{}]}', "name is missing"),
        ("POST", "/v2/ships", KEY | {"Content-Type": "text/plain"}, b"A", "a body of type"),
        ("DELETE", "/v2/ships/S1", {}, b"x", "a body of type"),
    ],
)  # fmt: skip
def test_the_origin_refuses_what_its_document_does_not_allow(
    method: str, url: str, headers: dict[str, str], body: bytes, why: str
) -> None:
    with pytest.raises(Breach, match=why):
        Contract(DOCUMENTS / "harbour.yaml", CREDENTIALS).understood(method, url, headers, body)
