"""A server with everything a server may have, and a client of each revision for it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import make_world
from tests.origin import SECRET, pet_shop
from tests.product.processes import host, key_for
from tests.protocol.requirements import EVERY, HANDSHAKE, MODERN
from tests.servers.conftest import GatewayDriver, Reply, Session, gateway

if TYPE_CHECKING:
    from tests.conftest import World

__all__ = ["gateway"]
WORDS = [f"word{number:03}" for number in range(150)]
ANY: dict[str, Any] = {"type": "object"}
MANIFEST: dict[str, Any] = {
    "mooring": 1,
    "server": {"title": "Desk", "instructions": "Be kind."},
    "tools": [
        {
            "name": "echo",
            "input_schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "$defs": {"text": {"type": "string", "maxLength": 50}},
                "properties": {"text": {"$ref": "#/$defs/text"}},
                "additionalProperties": False,
            },
            "static": {"kind": "echo"},
        },
        {
            "name": "strict",
            "input_schema": ANY,
            "output_schema": {"type": "object", "required": ["text"]},
            "static": {"kind": "echo"},
        },
        {
            "name": "mirror",
            "input_schema": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "x-mcp-header": "Name"},
                    "count": {"type": "integer", "x-mcp-header": "Count"},
                },
            },
            "static": {"kind": "echo"},
        },
    ],
    "resources": [
        {"name": "rules", "uri": "desk://rules", "mime_type": "text/plain", "text": "No running."},
        {"name": "dot", "uri": "desk://dot", "mime_type": "image/png", "blob": "iVBORw0KGgo="},
    ],
    "resource_templates": [
        {
            "name": "person",
            "uri_template": "desk://people/{who}",
            "text": "{who} works here.",
            "completions": {"who": WORDS},
        }
    ],
    "prompts": [
        {
            "name": "review",
            "description": "Review a text",
            "arguments": [{"name": "topic", "required": True, "completions": WORDS}],
            "messages": [{"role": "user", "text": "Review {topic}."}],
        }
    ],
}


@dataclass(slots=True)
class Peer:
    """A client of one revision, with a key for one server. A handshake revision's has a session."""

    revision: str
    gateway: GatewayDriver
    at: str
    key: str
    session: Session | None

    def ask(self, method: str, params: Mapping[str, Any] | None = None, **more: Any) -> Reply:
        if self.session is None:
            return self.gateway.modern(self.at, method, params, key=self.key, **more)
        return self.session.request(method, params, **more)

    def result(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        return self.ask(method, params).result

    def error(self, method: str, params: Mapping[str, Any] | None = None) -> int:
        """The code of the error; a handshake revision sends it with 200."""
        reply = self.ask(method, params)
        assert (reply.status == 200) is (self.session is not None), reply.body
        return int(reply.error["code"])

    def post(self, body: bytes, **headers: str) -> Reply:
        """Any bytes, as a client of this revision would send them."""
        fields = {"authorization": f"Bearer {self.key}", "mcp-protocol-version": self.revision}
        if self.session is not None:
            fields["mcp-session-id"] = self.session.token
        return self.gateway.send(f"/t/{self.at}/mcp", body, headers=fields | headers)


@pytest.fixture(scope="module")
def world(database: None) -> World:
    """One cast a file: nothing here changes what another test relies on."""
    return make_world()


@pytest.fixture(scope="module")
def publish(world: World, gateway: GatewayDriver) -> Callable[..., str]:
    """`publish(slug, **parts)` is `<tenant>/<server>` of a new server with these parts of a manifest."""

    def make(slug: str, *, is_public: bool = False, **parts: Any) -> str:
        manifest = {"mooring": 1, "server": {"title": slug}} | parts
        at = host(world, manifest, slug=f"{slug}-{secrets.token_hex(3)}", is_public=is_public)
        gateway.settle()
        return at

    return make


@pytest.fixture(scope="module")
def desk(publish: Callable[..., str]) -> str:
    return publish("desk", **MANIFEST)


@pytest.fixture(scope="module")
def key(world: World) -> str:
    return key_for(world)


@pytest.fixture
def peer_of(gateway: GatewayDriver, key: str) -> Callable[..., Peer]:
    def make(at: str, revision: str) -> Peer:
        session = None if revision == MODERN else gateway.session(at, revision, key=key)
        return Peer(revision, gateway, at, key, session)

    return make


@pytest.fixture(params=EVERY)
def peer(request: pytest.FixtureRequest, desk: str, peer_of: Callable[..., Peer]) -> Peer:
    """A client of every revision in turn."""
    return peer_of(desk, request.param)


@pytest.fixture(params=HANDSHAKE)
def older(request: pytest.FixtureRequest, desk: str, peer_of: Callable[..., Peer]) -> Peer:
    """A client of every handshake revision in turn."""
    return peer_of(desk, request.param)


@pytest.fixture
def modern(desk: str, peer_of: Callable[..., Peer]) -> Peer:
    return peer_of(desk, MODERN)


@pytest.fixture(scope="session")
def shop() -> Iterator[str]:
    """The origin of a running pet shop."""
    with pet_shop() as (_, origin):
        yield origin


@pytest.fixture
def pets(shop: str, publish: Callable[..., str]) -> str:
    """A server whose one tool answers with a list."""
    http = {
        "method": "GET",
        "url": f"{shop}/v1/pets",
        "constants": [{"in": "header", "name": "X-Api-Key", "value": SECRET}],
    }
    tool = {"name": "pets", "input_schema": ANY, "output_schema": {"type": "array"}, "http": http}
    return publish("pets", tools=[tool])
