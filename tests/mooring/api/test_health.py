"""The health of a server's upstreams over the REST API."""

from __future__ import annotations

from collections.abc import Callable

from django.utils import timezone

from mooring.scope import system_scope, tenant_scope
from servers import services
from servers.models import UpstreamWatch
from servers.runtimes.base import Health
from servers.services.watching import record_probes
from tests.conftest import World
from tests.mooring.api.conftest import Api

HTTP = {"method": "GET", "url": "https://api.example/things"}
TOOL = {"name": "things", "input_schema": {"type": "object"}, "http": HTTP}


def test_health_is_told_with_why_uptime_and_failures(world: World, owner: Api) -> None:
    with tenant_scope(world.acme.id):
        server = services.create_server(world.acme, slug="far", title="Far", actor=world.actor)
        services.replace_draft(
            server, {"mooring": 1, "server": {"title": "Far"}, "tools": [TOOL]}, actor=world.actor
        )
        services.publish(server, actor=world.actor)
    assert owner.get("servers/far/health").json()["state"] == "unknown"
    down = {"milliseconds": 5_000.0, "failure": "upstream_timeout"}
    with system_scope():
        for health in (
            Health("healthy", "", {"milliseconds": 20.0}),
            Health("unhealthy", "It did not answer within 5 s.", down),
        ):
            (watch,) = UpstreamWatch.objects.filter(server=server)
            record_probes([(watch, health)])
    told = owner.get("servers/far/health").json()
    (upstream,) = told["upstreams"]
    assert (told["state"], upstream["name"], upstream["kind"]) == ("unhealthy", "https://api.example", "http")
    assert (upstream["state"], upstream["detail"]) == ("unhealthy", "It did not answer within 5 s.")
    assert upstream["uptime"] == {"24h": 0.5, "7d": 0.5, "30d": 0.5}
    assert len(upstream["hours"]) == 24
    assert {name: upstream["hours"][-1][name] for name in ("probes", "alive", "mean")} == {
        "probes": 2,
        "alive": 1,
        "mean": 20.0,
    }
    assert upstream["log"] == ""
    (failure,) = told["failures"]
    assert (failure["code"], failure["upstream"]) == ("upstream_timeout", "https://api.example")


def test_the_last_lines_of_code_are_for_those_who_may_read_its_log(
    world: World, owner: Api, api: Callable[..., Api]
) -> None:
    with tenant_scope(world.acme.id):
        server = services.create_server(world.acme, slug="far", title="Far", actor=world.actor)
        watch = UpstreamWatch.objects.create(
            tenant=world.acme,
            server=server,
            kind="code",
            name="main",
            source="0" * 64,
            declared={"code": "0" * 64},
            due_at=timezone.now(),
        )
    with system_scope():
        record_probes([(watch, Health("unhealthy", "It does not come up.", {"log": "KeyError"}))])
    for reader, log in ((owner, "KeyError"), (api(world.acme, ("servers:read",)), "")):
        (upstream,) = reader.get("servers/far/health").json()["upstreams"]
        assert (upstream["kind"], upstream["detail"], upstream["log"]) == (
            "code",
            "It does not come up.",
            log,
        )


def test_the_health_of_anothers_server_is_not_found(world: World, owner: Api) -> None:
    with tenant_scope(world.globex.id):
        services.create_server(world.globex, slug="theirs", title="Theirs", actor=world.actor)
    assert owner.get("servers/theirs/health").status_code == 404


def test_the_reference_describes_it(owner: Api) -> None:
    assert "/api/v1/servers/{slug}/health" in owner.get("schema").content.decode()
