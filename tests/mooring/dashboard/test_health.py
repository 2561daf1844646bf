"""The page that says how what a server depends on is, and has been; the same over the REST API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from mooring.scope import system_scope, tenant_scope
from servers.models import UpstreamProbe, UpstreamWatch
from servers.runtimes.base import Health
from servers.services import create_server
from servers.services.watching import record_probes
from tests.mooring.dashboard.test_pages import faults_of

if TYPE_CHECKING:
    from django.test import Client

    from tests.mooring.dashboard.conftest import Stage

EVIL = "<script>alert(1)</script>"
DOWN = Health("unhealthy", f"It said {EVIL}.", {"milliseconds": 5.0, "failure": "upstream_invalid"})


@pytest.fixture
def page(stage: Stage) -> str:
    return f"{stage.here}health/"


def probed(stage: Stage, *healths: Health) -> None:
    with system_scope():
        for health in healths:
            (watch,) = UpstreamWatch.objects.filter(server=stage.server_id)
            record_probes([(watch, health)])


def words(client: Client, page: str, **headers: str) -> str:
    answer = client.get(page, headers=headers)
    assert answer.status_code == 200
    assert EVIL not in answer.content.decode()
    return " ".join(answer.content.decode().split())


def test_before_the_first_look_it_says_so_and_asks_again_soon(stage: Stage, alice: Client, page: str) -> None:
    text = words(alice, page)
    assert faults_of(alice.get(page)) == []
    assert "Waiting for a look" in text
    assert "https://api.example.com" in text
    assert 'hx-trigger="every 3s"' in text


def test_it_shows_state_uptime_hours_and_failures(stage: Stage, alice: Client, page: str) -> None:
    probed(stage, *[Health("healthy", "", {"milliseconds": 48.0})] * 3, DOWN)
    text = words(alice, page)
    assert faults_of(alice.get(page)) == []
    assert "Something it needs does not answer" in text
    assert "75.0%" in text
    assert "It said &lt;script&gt;" in text
    assert "1 of the last 24 hours with failures" in text
    assert "3 of 4 answered, 48 ms" in text
    probed(stage, Health("degraded", "It took 3.1 s to answer.", {"milliseconds": 3_100.0}))
    assert "It took 3.1 s to answer." in words(alice, page)
    probed(stage, Health("healthy", "", {"milliseconds": 31.0}))
    assert "All that it needs is there" in words(alice, page)


def test_the_servers_own_page_says_so_while_one_is_unhealthy(stage: Stage, alice: Client) -> None:
    probed(stage, DOWN)
    text = words(alice, stage.here)
    assert "https://api.example.com does not answer." in text
    assert f"{stage.here}health/" in text
    probed(stage, Health("healthy", "", {"milliseconds": 48.0}))
    assert "does not answer" not in words(alice, stage.here)


def test_without_failures_it_says_that_there_were_none(stage: Stage, alice: Client, page: str) -> None:
    probed(stage, Health("healthy", "", {"milliseconds": 48.0}))
    assert "None in two days" in words(alice, page)


def test_when_no_gateway_looks_that_is_said(stage: Stage, alice: Client, page: str) -> None:
    probed(stage, Health("healthy", "", {"milliseconds": 48.0}))
    with tenant_scope(stage.world.acme.id):
        UpstreamWatch.objects.update(probed_at=timezone.now() - timedelta(hours=2))
    assert "No gateway has looked since" in words(alice, page)


def test_the_part_that_asks_again_is_a_part(stage: Stage, alice: Client, page: str) -> None:
    text = words(alice, page, **{"HX-Request": "true"})
    assert text.startswith('<div class="stack" id="health"')


def test_an_unpublished_server_has_nothing_to_look_at(stage: Stage, alice: Client) -> None:
    with tenant_scope(stage.world.acme.id):
        create_server(stage.world.acme, slug="fresh", title="Fresh", actor=stage.world.actor)
    text = words(alice, f"{stage.base}servers/fresh/health/")
    assert "Nothing is published yet" in text
    assert "Publish the first version" in text


def test_a_viewer_sees_it_and_strangers_do_not(
    stage: Stage, page: str, client_of: Callable[..., Client]
) -> None:
    assert "Health" in words(client_of(stage.world.bob), page)
    assert client_of(stage.world.eve).get(page).status_code == 404


def test_probes_of_others_are_not_shown(stage: Stage, alice: Client, page: str) -> None:
    with tenant_scope(stage.world.globex.id):
        assert not UpstreamProbe.objects.exists()
    probed(stage, DOWN)
    with tenant_scope(stage.world.globex.id):
        assert not UpstreamProbe.objects.exists()


def code_watched(stage: Stage, *healths: Health) -> None:
    """As if the server were uploaded code as well."""
    with system_scope():
        watch = UpstreamWatch.objects.create(
            tenant=stage.world.acme,
            server_id=stage.server_id,
            kind="code",
            name="main",
            source="0" * 64,
            declared={"code": "0" * 64},
            channels=["live"],
            due_at=timezone.now(),
        )
        for health in healths:
            record_probes([(watch, health)])


def test_broken_code_is_shown_with_its_last_lines_to_those_who_may_read_its_log(
    stage: Stage, alice: Client, page: str, client_of: Callable[..., Client]
) -> None:
    why = {"milliseconds": 2.0, "failure": "code_broken", "log": f"{EVIL}\nKeyError: 'REGION'"}
    code_watched(stage, Health("unhealthy", "It does not come up: it ended with 1.", why))
    text = words(alice, page)
    assert faults_of(alice.get(page)) == []
    assert "It does not come up: it ended with 1." in text
    assert "KeyError" in text
    assert f"{stage.here}code/logs/" in text
    viewer = words(client_of(stage.world.bob), page)
    assert "It does not come up: it ended with 1." in viewer
    assert "KeyError" not in viewer
    assert "code/logs/" not in viewer


def test_code_of_which_nothing_is_known_says_why(stage: Stage, alice: Client, page: str) -> None:
    code_watched(stage, Health("unknown", "Its runner has not answered within 5 s."))
    text = words(alice, page)
    assert "Its runner has not answered within 5 s." in text
