"""The REST API against callers who guess, and the limits of what they may make."""

from __future__ import annotations

import base64
import json

import pytest

from mooring.errors import Conflict
from mooring.scope import tenant_scope
from servers import services
from servers.models import Server, Version
from tenants.permissions import KEY_SCOPES
from tests.conftest import World
from tests.mooring.api.conftest import Api
from tests.product.processes import echo, host, key_for


@pytest.fixture
def api(world: World) -> Api:
    """Of the owner of an organisation that has published a server `desk`."""
    host(world, echo("say"))
    return Api(key_for(world, *sorted(KEY_SCOPES)))


def cursor(*values: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


JUNK = [
    "x",
    "=",
    "%00",
    "%ff%fe",
    "A" * 5_000,
    base64.urlsafe_b64encode(b"[" * 20_000).decode(),
    cursor(),
    cursor(None),
    cursor(True),
    cursor([1]),
    cursor({}),
    cursor("\x00"),
    cursor("\ud800"),
    cursor(10**30),
    cursor(-(10**30)),
    cursor("2026-01-01"),
    cursor("2026-01-01T00:00:00"),
    cursor("99999-01-01T00:00:00Z"),
    cursor("0192f0c0-0000-7000-8000-000000000000"),
    cursor(1, "a"),
    cursor("a", 1),
    cursor("a", "b", "c"),
]


@pytest.mark.parametrize(
    "path",
    [
        "servers",
        "servers/desk/tools",
        "servers/desk/versions",
        "servers/desk/secrets",
        "keys",
        "calls",
        "audit",
    ],
)
def test_a_cursor_that_is_none_is_the_callers_mistake(api: Api, path: str) -> None:
    for junk in JUNK:
        reply = api.get(f"{path}?cursor={junk}")
        # One of ours by chance, or a list that comes whole; never a failure of ours.
        assert reply.status_code in {200, 422}, (junk, reply.content)


def test_rolling_back_on_a_channel_that_is_not_there_makes_none(api: Api) -> None:
    refused = api.post("servers/desk/rollback", {"version": "1.0.0", "channel": "staging"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
    channels = api.get("servers/desk/channels").json()
    assert [channel["name"] for channel in channels["data"]] == ["live"]


def test_a_server_has_at_most_twenty_channels(api: Api, world: World) -> None:
    def publish(number: int) -> Version:
        manifest = echo("say") | {"server": {"title": f"Number {number}"}}
        services.replace_draft(server, manifest, actor=world.actor)
        return services.publish(server, actor=world.actor, channel=f"c{number}")

    with tenant_scope(world.acme.id):
        server = Server.objects.get(slug="desk")
        for number in range(19):
            publish(number)
        with pytest.raises(Conflict, match="at most 20 channels"):
            publish(19)
    refused = api.post("servers/desk/versions", {"channel": "c19"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "too_many_channels")
    assert len(api.get("servers/desk/channels").json()["data"]) == 20
    assert api.post("servers/desk/versions", {"channel": "c3"}).status_code == 201, "one that is there moves"
