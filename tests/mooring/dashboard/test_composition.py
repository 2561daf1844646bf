"""A server made of others, on its settings page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mooring.scope import system_scope, tenant_scope
from servers import services
from servers.models import Server, UpstreamWatch
from servers.services.watching import record_probes
from tests.mooring.dashboard.conftest import errors_of, fields_of
from tests.mooring.dashboard.test_pages import faults_of
from tests.servers.services.test_watching import DOWN, HEALTHY

if TYPE_CHECKING:
    from django.test import Client

    from tests.mooring.dashboard.conftest import Stage


@pytest.fixture
def whole(stage: Stage) -> str:
    """The address of a server that is to be made of others."""
    with tenant_scope(stage.world.acme.id):
        services.create_server(stage.world.acme, slug="whole", title="Whole", actor=stage.world.actor)
    return f"{stage.base}servers/whole/"


def test_members_are_chosen_and_one_that_goes_is_said_to_be_missing(
    stage: Stage, alice: Client, whole: str
) -> None:
    page = f"{whole}members/"
    fields = fields_of(alice.get(page).content.decode())
    chosen = fields | {"members-0-server": "sky", "members-0-begins": "sky_"}
    answer = alice.post(page, chosen)
    assert answer.status_code == 302, errors_of(answer)
    with tenant_scope(stage.world.acme.id):
        assert Server.objects.get(slug="whole").members == [{"server": "sky", "prefix": "sky_"}]
    settings = alice.get(f"{whole}settings/")
    assert faults_of(settings) == []
    assert "served" in settings.content.decode()
    with tenant_scope(stage.world.acme.id):
        services.delete_server(Server.objects.get(slug="sky"), actor=stage.world.actor)
    assert "There is no such server." in alice.get(f"{whole}settings/").content.decode()
    # It may stay, or be taken out.
    fields = fields_of(alice.get(page).content.decode())
    assert fields["members-0-server"] == "sky"
    assert alice.post(page, fields).status_code == 302
    assert alice.post(page, fields | {"members-0-DELETE": "on"}).status_code == 302
    with tenant_scope(stage.world.acme.id):
        assert Server.objects.get(slug="whole").members == []


def test_a_member_without_a_version_on_its_channel_is_missing(
    stage: Stage, alice: Client, whole: str
) -> None:
    page = f"{whole}members/"
    fields = fields_of(alice.get(page).content.decode())
    alice.post(page, fields | {"members-0-server": "sky", "members-0-channel": "beta"})
    assert "Nothing is published on beta." in alice.get(page).content.decode()


def test_a_member_whose_upstream_does_not_answer_is_shown_with_a_way_to_see_why(
    stage: Stage, alice: Client, whole: str
) -> None:
    with tenant_scope(stage.world.acme.id):
        sky = Server.objects.get(slug="sky")
        made = Server.objects.get(slug="whole")
        services.update_server(made, actor=stage.world.actor, members=[{"server": "sky"}])
    with system_scope():
        watch = UpstreamWatch.objects.filter(server=sky)[0]
        record_probes([(watch, DOWN)])
    shown = alice.get(f"{whole}settings/")
    assert faults_of(shown) == []
    text = shown.content.decode()
    assert "does not answer" in text
    assert watch.name in text
    assert f"{stage.base}servers/sky/health/" in text
    with system_scope():
        record_probes([(watch, HEALTHY)])
    assert "does not answer" not in alice.get(f"{whole}settings/").content.decode()


def test_a_member_twice_is_refused_above_the_rows(stage: Stage, alice: Client, whole: str) -> None:
    page = f"{whole}members/"
    fields = fields_of(alice.get(page).content.decode())
    longer = fields_of(
        alice.post(page, fields | {"members-0-server": "sky", "add": "members"}).content.decode()
    )
    refused = alice.post(page, longer | {"members-1-server": "sky"})
    assert refused.status_code == 422
    assert "is a member already" in refused.content.decode()
    assert faults_of(refused) == [422]
