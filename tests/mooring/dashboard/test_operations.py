"""Operational switches, and what every page says while one is on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from mooring.scope import tenant_scope
from servers.models import Override
from tests.mooring.dashboard.test_pages import faults_of

if TYPE_CHECKING:
    from django.test import Client

    from tests.mooring.dashboard.conftest import Stage

MOCK = {"kind": "mock", "answer": '{"content": [{"type": "text", "text": "hi"}]}'}
FAULT = {"kind": "fault", "share": "25", "delay_ms": "200", "error": "The moon is full."}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"kind": "disable"}, "disabled"),
        (MOCK, "mocked"),
        (FAULT, "25.0% of the calls wait 200 ms, then fail with “The moon is full.”"),
    ],
)
def test_a_switch_is_set_said_on_every_page_and_taken_back(
    stage: Stage, alice: Client, sent: dict[str, Any], said: str
) -> None:
    page = f"{stage.here}operations/"
    about = {"tool": "get_sky", "reason": "An incident.", "hours": "1"}
    assert alice.post(page, sent | about).status_code == 302
    answer = alice.get(page)
    assert faults_of(answer) == []
    text = " ".join(answer.content.decode().split())
    assert said in text
    assert "An incident." in text
    assert "A switch is on: get_sky is" in alice.get(f"{stage.here}tools/").content.decode()
    with tenant_scope(stage.world.acme.id):
        (switch,) = Override.objects.filter(server_id=stage.server_id)
    assert switch.expires_at is not None
    assert alice.post(f"{page}{switch.id}/clear/").status_code == 302
    assert "No switch is on" in alice.get(page).content.decode()
    assert "A switch is on" not in alice.get(f"{stage.here}tools/").content.decode()


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ({"kind": "mock"}, "Write the answer."),
        ({"kind": "mock", "answer": '{"text": "hi"}'}, "Write content, structured or both."),
        ({"kind": "fault"}, "above 0, at most 1"),
        ({"kind": "fault", "share": "10"}, "Give a delay, an error or both."),
        ({"kind": "disable", "tool": "nothing"}, "Select a valid choice."),
    ],
)
def test_a_switch_that_cannot_be_is_refused(
    stage: Stage, alice: Client, sent: dict[str, str], problem: str
) -> None:
    refused = alice.post(f"{stage.here}operations/", sent)
    assert refused.status_code == 422
    assert problem in refused.content.decode()


def test_a_viewer_sees_switches_and_cannot_set_them(
    stage: Stage, alice: Client, client_of: Callable[..., Client]
) -> None:
    page = f"{stage.here}operations/"
    alice.post(page, {"kind": "disable"})
    text = client_of(stage.world.bob).get(page).content.decode()
    assert "every tool" in text
    assert "Take back" not in text
    assert "A developer can set" in text
