"""The pages about MCP servers elsewhere: connected, chosen from, compared, accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from mooring.scope import system_scope, tenant_scope
from servers import services
from servers.models import Server, Tool, UpstreamDefinition
from tests.mooring.dashboard.conftest import EVIL, fields_of
from tests.mooring.dashboard.test_pages import faults_of
from tests.servers.gateway.test_remote import changed, listing, peer
from tests.servers.runtimes.remote.peers import ECHO, Peer

if TYPE_CHECKING:
    from django.test import Client

    from tests.mooring.dashboard.conftest import Stage

__all__ = ["peer"]
HIDDEN = "Gives a text back.\u202e\U000e0061\U000e0062"


@pytest.fixture
def far(stage: Stage, alice: Client, peer: Peer, run_jobs: Callable[[], None]) -> str:
    """The page of an upstream of `far`, a server that was connected and looked at."""
    made = alice.post(
        f"{stage.base}servers/new/remote/",
        {
            "name": "Far",
            "url": peer.url,
            "transport": "auto",
            "header": "Authorization",
            "credential": "s3cret",
        },
    )
    assert made.status_code == 302
    run_jobs()
    return str(made["Location"])


@pytest.fixture
def changed_far(stage: Stage, alice: Client, far: str, peer: Peer, run_jobs: Callable[[], None]) -> str:
    """The same, with its echo published and then defined differently over there."""
    take(alice, far, "echo")
    with tenant_scope(stage.world.acme.id):
        services.publish(server_of(stage), actor=stage.world.actor)
    peer.instead["tools/list"] = listing(changed(description=f"{HIDDEN} {EVIL}"))
    look(alice, far, run_jobs)
    return far


def server_of(stage: Stage) -> Server:
    found: Server = Server.objects.get(tenant=stage.world.acme, slug="far")
    return found


def take(client: Client, far: str, *names: str) -> Any:
    """Tick these and no others of what is shown."""
    shown = fields_of(client.get(far).content.decode())["shown"]
    with system_scope():
        rows = UpstreamDefinition.objects.filter(id__in=shown.split(), name__in=names)
        ticked = [str(row) for row in rows.values_list("id", flat=True)]
    return client.post(f"{far}take/", {"shown": shown, "part": ticked}, follow=True)


def look(client: Client, far: str, run_jobs: Callable[[], None]) -> None:
    assert client.post(f"{far}look/").status_code == 302
    run_jobs()


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    text: str = answer.content.decode()
    return text


def test_a_remote_server_is_connected_with_its_credential_as_a_secret(
    stage: Stage, alice: Client, far: str, peer: Peer
) -> None:
    text = text_of(alice.get(far))
    assert "Gives a text back." in text
    assert "0 of 1 part" in text
    assert "s3cret" not in text
    assert peer.last.headers["Authorization"] == "Bearer s3cret"
    with tenant_scope(stage.world.acme.id):
        (upstream,) = server_of(stage).upstreams.values()
        assert upstream["headers"] == {"Authorization": "Bearer {secret:token}"}


def test_a_look_shows_its_progress_until_it_is_over(
    alice: Client, far: str, run_jobs: Callable[[], None]
) -> None:
    alice.post(f"{far}look/")
    assert "Waiting for a worker" in text_of(alice.get(far))
    asked = {"headers": {"HX-Request": "true"}}
    assert "every 1s" in text_of(alice.get(f"{far}progress/", **asked))
    run_jobs()
    over = alice.get(f"{far}progress/", **asked)
    assert (over.status_code, over["HX-Refresh"]) == (204, "true")


def test_an_address_that_cannot_be_is_refused_at_its_field(stage: Stage, alice: Client) -> None:
    sent = {"name": "Far", "url": "ftp://x", "transport": "auto"}
    answer = alice.post(f"{stage.base}servers/new/remote/", sent)
    assert answer.status_code == 422
    with tenant_scope(stage.world.acme.id):
        assert not Server.objects.filter(slug="far").exists()


def test_a_failed_look_says_why(alice: Client, far: str, peer: Peer, run_jobs: Callable[[], None]) -> None:
    peer.answers("tools/list", status=401)
    look(alice, far, run_jobs)
    text = text_of(alice.get(far))
    assert "does not accept its credentials" in text
    assert "What is listed below is what it said before." in text
    assert "no answer" in text_of(alice.get(f"{far.split('upstream/')[0]}upstreams/"))


def test_what_is_ticked_is_taken_and_what_is_not_shown_stays(
    stage: Stage, alice: Client, far: str, peer: Peer, run_jobs: Callable[[], None]
) -> None:
    peer.instead["tools/list"] = listing(ECHO, ECHO | {"name": "other"}, ECHO | {"name": "third"})
    look(alice, far, run_jobs)
    take(alice, far, "echo", "other")
    shown = fields_of(alice.get(f"{far}?q=other").content.decode())
    assert "echo" not in shown["shown"]
    alice.post(f"{far}take/", {"shown": shown["shown"]})
    with tenant_scope(stage.world.acme.id):
        assert [tool.name for tool in Tool.objects.filter(server=server_of(stage))] == ["echo"]


def test_what_is_not_listed_any_more_is_said(
    alice: Client, far: str, peer: Peer, run_jobs: Callable[[], None]
) -> None:
    take(alice, far, "echo")
    peer.instead["tools/list"] = listing(ECHO | {"name": "other"})
    look(alice, far, run_jobs)
    assert "1 part the draft takes is not listed any more: echo" in text_of(alice.get(far))


def test_a_change_is_shown_with_its_hidden_characters_and_accepted(
    stage: Stage, alice: Client, changed_far: str
) -> None:
    index = f"{changed_far.split('upstream/')[0]}upstreams/"
    page = alice.get(index)
    assert faults_of(page) == []
    text = text_of(page)
    assert "calls held back" in text
    assert '<mark class="sign">U+202E RIGHT-TO-LEFT OVERRIDE</mark>' in text
    assert "spelling &#x27;ab&#x27;</mark>" in text
    assert "\u202e" not in text
    assert faults_of(alice.get(changed_far)) == []
    with tenant_scope(stage.world.acme.id):
        (drift,) = services.live_drifts(server_of(stage))
    assert "1 part changed upstream." in text_of(alice.get(f"{stage.base}servers/far/"))
    sent = {"section": "tools", "part": "echo", "digest": drift.digest}
    accepted = alice.post(f"{changed_far}accept/", sent, follow=True)
    assert "Accepted. Version 1.0.1 is live with it." in text_of(accepted)
    assert "Changed upstream" not in text_of(alice.get(index))


def test_accepting_what_changed_again_meanwhile_is_refused(alice: Client, changed_far: str) -> None:
    sent = {"section": "tools", "part": "echo", "digest": "0" * 64}
    refused = alice.post(f"{changed_far}accept/", sent)
    assert refused.status_code == 409
    assert "changed this again" in refused.content.decode()


def test_by_policy_a_changed_part_is_said_to_be_served(
    alice: Client, changed_far: str, run_jobs: Callable[[], None]
) -> None:
    fields = fields_of(alice.get(changed_far).content.decode())
    sent = {name: fields[name] for name in ("url", "transport", "headers")} | {"on_change": "serve"}
    assert alice.post(changed_far, sent).status_code == 302
    run_jobs()
    assert "still served as it was" in text_of(alice.get(changed_far))


def test_a_viewer_sees_all_of_it_and_no_buttons(
    stage: Stage, changed_far: str, client_of: Callable[..., Client]
) -> None:
    bob = client_of(stage.world.bob)
    for page in (changed_far, f"{changed_far.split('upstream/')[0]}upstreams/"):
        text = text_of(bob.get(page))
        assert "A developer can accept this." in text
        assert not any(word in text for word in ("Accept and publish", "Look again", "Add an upstream"))


def test_a_removed_upstream_takes_its_parts_along(stage: Stage, alice: Client, far: str) -> None:
    take(alice, far, "echo")
    gone = alice.post(f"{far}delete/", follow=True)
    assert "No upstreams" in text_of(gone)
    with tenant_scope(stage.world.acme.id):
        assert not Tool.objects.filter(server=server_of(stage)).exists()


def test_an_upstream_is_added_by_name_and_its_problems_stand_at_the_fields(
    stage: Stage, alice: Client, peer: Peer, run_jobs: Callable[[], None]
) -> None:
    page = f"{stage.here}upstreams/"
    assert "No upstreams" in text_of(alice.get(page))
    sent = {"name": "Bad Name", "url": peer.url, "transport": "auto", "on_change": "refuse", "headers": "x"}
    refused = alice.post(page, sent)
    assert refused.status_code == 422
    assert "is not written as Name: value" in refused.content.decode()
    refused = alice.post(page, sent | {"headers": ""})
    assert refused.status_code == 422
    assert "Use lower-case letters" in refused.content.decode()
    added = alice.post(page, sent | {"name": "good", "headers": "X-Key: {secret:far_key}"})
    assert added["Location"].endswith("/upstream/good/")
    assert "far_key" in text_of(alice.get(page))
    run_jobs()
    assert "needs the secret far_key" in text_of(alice.get(added["Location"]))
