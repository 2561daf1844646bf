"""What a tenant can make the running product connect to, and what one tenant's origin can leave for another's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mooring.errors import InvalidInput
from mooring.jobs.models import Job
from mooring.scope import tenant_scope
from servers import services
from tests.conftest import World, make_world
from tests.installation import installed
from tests.product.processes import ProcessDriver, host, key_for

ALLOWED = "127.0.0.1"
# A name service for some names, and a witness of every address the process connects to.
WITNESS = """
import os, socket, sys
NAMES = {"good.test": ["127.0.0.1"], "mixed.test": ["127.0.0.1", "127.0.0.2"], "inner.test": ["127.0.0.2"],
         "late.test": ["127.0.0.2", "127.0.0.1"]}
ask = socket.getaddrinfo
def answer(host, port, *more, **named):
    if host not in NAMES:
        return ask(host, port, *more, **named)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in NAMES[host]]
socket.getaddrinfo = answer
note = open(os.environ["MOORING_TEST_CONNECTIONS"], "a", buffering=1)
def hook(event, arguments):
    if event == "socket.connect":
        note.write(repr(arguments[1]) + "\\n")
sys.addaudithook(hook)
"""
# None may open a connection, though {port} is where somebody listens on the one address that may be reached.
FORBIDDEN = [
    "http://127.0.0.2:{port}",
    "http://0.0.0.0:{port}",
    "http://0:{port}",
    "http://2130706434:{port}",
    "http://0x7f000002:{port}",
    "http://0177.0.0.2:{port}",
    "http://127.2:{port}",
    "http://[::ffff:127.0.0.2]:{port}",
    "http://[::ffff:7f00:2]:{port}",
    "http://[::1]:{port}",
    "http://[::]:{port}",
    "http://169.254.169.254:{port}",
    "http://mixed.test:{port}",
    "http://late.test:{port}",
    "http://inner.test:{port}",
]


@dataclass
class Site:
    """The product with one reachable address, and the origin that listens there."""

    product: ProcessDriver
    origin: Origin
    environment: dict[str, str]
    witness: Path

    def connections(self) -> list[str]:
        """Addresses that were connected to, but for Redis."""
        redis = urlsplit(os.environ.get("REDIS_URL", ""))
        lines = self.witness.read_text().splitlines()
        return [line for line in lines if line != repr((redis.hostname, redis.port))]

    def call(self, at: str, tool: str, key: str) -> Any:
        return self.product.call(at, tool, key=key)


class Origin(ThreadingHTTPServer):
    """Gives everybody the same cookie and remembers which cookies came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((ALLOWED, 0), Answer)
        self.cookies: list[str | None] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Origin)
        self.server.cookies.append(self.headers.get("Cookie"))
        body = b'{"openapi": "3.1.0"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", f"session=number-{len(self.server.cookies)}; Path=/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests need none."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, database: None) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("witness")
    (folder / "sitecustomize.py").write_text(WITNESS)
    witness = folder / "connections"
    witness.touch()
    variables = {
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "MOORING_TEST_CONNECTIONS": str(witness),
        "MOORING_EGRESS_ALLOW": f"{ALLOWED}/32",
        "MOORING_DRAIN": "0",
    }
    origin = Origin()
    thread = threading.Thread(target=origin.serve_forever)
    thread.start()
    try:
        with installed(Path(os.environ["MOORING_DATA_DIR"]), **variables) as made:
            yield Site(ProcessDriver(made.port), origin, made.environment, witness)
    finally:
        origin.shutdown()
        thread.join()
        origin.server_close()


def getting(*urls: str) -> dict[str, Any]:
    """A manifest of tools `get0`, `get1` and so on that get these addresses."""
    tools = [
        {
            "name": f"get{number}",
            "input_schema": {"type": "object"},
            "http": {"method": "GET", "url": f"{{base{number}}}/x", "timeout_seconds": 5},
        }
        for number in range(len(urls))
    ]
    variables = {f"base{number}": {"default": url} for number, url in enumerate(urls)}
    return {"mooring": 1, "server": {"title": "Desk"}, "variables": variables, "tools": tools}


def test_no_form_of_another_address_opens_a_socket(site: Site) -> None:
    world, port = make_world(), site.origin.port
    good = [f"http://{ALLOWED}:{port}", f"http://good.test:{port}"]
    at = host(world, getting(*good, *(url.format(port=port) for url in FORBIDDEN)))
    key, before = key_for(world), len(site.connections())
    for number in range(len(good)):
        assert not site.call(at, f"get{number}", key).get("isError")
    reached = site.connections()[before:]
    assert reached
    assert set(reached) == {repr((ALLOWED, port))}, "the witness sees what is connected to"
    for number, url in enumerate(FORBIDDEN, len(good)):
        answer = site.call(at, f"get{number}", key)
        assert answer["isError"] is True, url
        assert "127.0.0" not in answer["content"][0]["text"]
    assert site.connections()[before:] == reached


@pytest.mark.parametrize("part", ["input_schema", "output_schema"])
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "{url}"}}},
        {"type": "object", "allOf": [{"$ref": "{url}#/definitions/a"}]},
        {"type": "object", "$schema": "{url}"},
        {"type": "object", "$id": "{url}", "properties": {"a": {"$ref": "other.json"}}},
        {"type": "object", "properties": {"a": {"$dynamicRef": "{url}#a"}}},
        {"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}},
    ],
    ids=["ref", "all-of", "meta-schema", "relative", "dynamic", "file"],
)
def test_a_tools_schema_that_points_elsewhere_is_refused_and_opens_no_socket(
    site: Site, world: World, part: str, schema: dict[str, Any]
) -> None:
    """Not even at the address that tools may reach."""
    before, cookies = site.connections(), len(site.origin.cookies)
    pointing = json.loads(json.dumps(schema).replace("{url}", f"http://{ALLOWED}:{site.origin.port}/s.json"))
    tool = {"name": "a", "input_schema": {"type": "object"}, "static": {"kind": "echo"}} | {part: pointing}
    manifest = {"mooring": 1, "server": {"title": "Desk"}, "tools": [tool]}
    key = key_for(world, "servers:read", "servers:write")
    assert site.product.api("POST", "servers", key, b'{"slug": "desk", "title": "Desk"}').status == 201
    refused = site.product.api("PUT", "servers/desk/draft", key, json.dumps(manifest).encode())
    assert refused.status == 422, refused.body
    assert any(part in field for field in refused.error["data"]["fields"])
    assert (site.connections(), len(site.origin.cookies)) == (before, cookies)


def document(url: str) -> dict[str, Any]:
    """An OpenAPI document whose parts are elsewhere, and one operation that is whole."""
    elsewhere = {"$ref": url}
    fine = {"operationId": "fine", "responses": {"200": {"description": "Done"}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Spread", "version": "1"},
        "servers": [{"url": "https://api.example"}],
        "externalDocs": {"url": url},
        "paths": {
            "/fine": {"get": fine},
            "/schema": {
                "post": {
                    "operationId": "schema",
                    "requestBody": {"content": {"application/json": {"schema": elsewhere}}},
                    "responses": {"200": {"description": "Done"}},
                }
            },
            "/parameter": {"get": {"operationId": "parameter", "parameters": [elsewhere], "responses": {}}},
            "/path": elsewhere,
        },
    }


def test_an_imported_document_that_points_elsewhere_opens_no_socket(site: Site, world: World) -> None:
    before, cookies = site.connections(), len(site.origin.cookies)
    key = key_for(world, "servers:read", "servers:write")
    assert site.product.api("POST", "servers", key, b'{"slug": "desk", "title": "Desk"}').status == 201
    body = json.dumps(document(f"http://{ALLOWED}:{site.origin.port}/part.json")).encode()
    answer = site.product.api("POST", "servers/desk/draft/import", key, body)
    assert answer.status in {200, 202, 422}, answer.body
    assert b"bundle" in answer.body.lower(), "it says what to do"
    assert (site.connections(), len(site.origin.cookies)) == (before, cookies)


# What a worker does when it is woken for a job.
WORKER = """
import sys, uuid
import django
django.setup()
from mooring import jobs
from servers import tasks
for job in sys.argv[1:]:
    jobs.run(uuid.UUID(job))
"""


def test_a_document_is_fetched_from_allowed_addresses_only(site: Site, world: World) -> None:
    port = site.origin.port
    with tenant_scope(world.acme.id):
        with pytest.raises(InvalidInput):
            services.start_import(
                world.acme, actor=world.actor, name="d", document=None, url=f"http://0.0.0.0:{port}/"
            )
        # This process allows all of loopback; the worker does not.
        hosts = (ALLOWED, "127.0.0.2", "mixed.test", "late.test", "inner.test")
        jobs = [
            services.start_import(
                world.acme, actor=world.actor, name="d", document=None, url=f"http://{name}:{port}/d.json"
            ).job
            for name in hosts
        ]
    ids = [str(job.id) for job in jobs if job is not None]
    before = len(site.connections())
    subprocess.run([sys.executable, "-c", WORKER, *ids], env=site.environment, timeout=60, check=True)
    reached = [line for line in site.connections()[before:] if str(port) in line]
    assert set(reached) == {repr((ALLOWED, port))}
    assert len(reached) == 1
    with tenant_scope(world.acme.id):
        for job in Job.objects.filter(id__in=ids[1:]):
            assert job.error
            assert "127.0.0" not in job.error


def test_a_cookie_of_one_tenants_origin_reaches_no_other_call(site: Site, world: World) -> None:
    manifest = getting(f"http://{ALLOWED}:{site.origin.port}")
    other = make_world()
    acme, stranger = host(world, manifest), host(other, manifest)
    calls = [(acme, key_for(world)), (stranger, key_for(other)), (acme, key_for(world))]
    site.origin.cookies.clear()
    for at, key in calls:
        assert not site.call(at, "get0", key).get("isError")
    assert site.origin.cookies == [None, None, None]
