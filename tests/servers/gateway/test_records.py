"""What remains of a call: every field of its record, by way of the journal's file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.scope import tenant_scope
from servers import services
from servers.models import Server
from servers.pipeline.journal import CallEntry, Journal
from tenants.models import ApiKey
from tests.conftest import World
from tests.servers.conftest import META, MODERN, GatewayDriver

ECHO = {
    "mooring": 1,
    "server": {"title": "Echo"},
    "tools": [{"name": "echo", "input_schema": {"type": "object"}, "static": {"kind": "echo"}}],
}


@pytest.fixture
def journal(gateway: GatewayDriver, tmp_path: Path) -> Iterator[Journal]:
    """One that nobody ships."""
    plane = gateway.app.plane
    kept, plane.journal = plane.journal, Journal(tmp_path, reserve=0)
    yield plane.journal
    plane.journal.close()
    plane.journal = kept


@pytest.fixture
def server(world: World, gateway: GatewayDriver) -> Server:
    with tenant_scope(world.acme.id):
        server = services.create_server(world.acme, slug="echo", title="Echo", actor=world.actor)
        services.replace_draft(server, ECHO, actor=world.actor)
        services.publish(server, actor=world.actor)
    gateway.settle()
    return server


def only_entry(journal: Journal) -> CallEntry:
    (entry,), _ = journal.segments[0].read(0, 10)
    return entry


def test_a_call_is_recorded_with_who_what_and_how(
    gateway: GatewayDriver, journal: Journal, server: Server, world: World, key_of: Callable[..., str]
) -> None:
    secret = key_of(world.acme)
    with tenant_scope(world.acme.id):
        key = ApiKey.objects.get()
    meta = {
        META + "protocolVersion": MODERN,
        META + "clientCapabilities": {},
        META + "clientInfo": {"name": "claude", "version": "9"},
    }
    params = {"name": "echo", "arguments": {"text": "hello"}}
    reply = gateway.modern(f"{world.acme.slug}/echo", "tools/call", params, key=secret, meta=meta)
    entry = only_entry(journal)
    assert (entry.tenant_id, entry.server_id) == (world.acme.id.bytes, server.id.bytes)
    assert (entry.server_slug, entry.version, entry.channel) == ("echo", "1.0.0", "live")
    assert (entry.principal_kind, entry.principal_id) == ("key", str(key.id))
    assert entry.principal_name == key.name
    assert (entry.method, entry.subject) == ("tools/call", "echo")
    assert (entry.revision, entry.client) == (MODERN, "claude 9")
    assert (entry.status, entry.code) == ("ok", "")
    assert entry.request_id == reply.headers["x-request-id"]
    assert entry.request_bytes > len('{"name":"echo"}')
    assert entry.answer_bytes == len(reply.body)
    assert 0 < entry.duration_us < 30_000_000
    assert abs(entry.time / 1_000_000 - time.time()) < 60


def test_a_refused_call_is_recorded_with_its_reason(
    gateway: GatewayDriver, journal: Journal, server: Server, world: World, key_of: Callable[..., str]
) -> None:
    at = f"{world.acme.slug}/echo@nowhere"
    reply = gateway.modern(at, "tools/call", {"name": "echo"}, key=key_of(world.acme))
    entry = only_entry(journal)
    assert (entry.status, entry.code) == ("refused", "version_not_found")
    assert (entry.version, entry.channel) == ("", "nowhere")
    assert entry.answer_bytes == len(reply.body)
