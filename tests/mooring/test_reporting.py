from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentry_sdk
from django.http import HttpRequest
from django.test import Client, override_settings
from django.urls import path
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from mooring import jobs
from mooring.jobs.registry import Progress
from mooring.reporting import A_MINUTE, _scrubbed, start_reporting
from mooring.scope import tenant_scope
from servers import services
from tenants.keys import new_key
from tests.conftest import World
from tests.servers.conftest import GatewayDriver, gateway

__all__ = ["gateway"]
KEY = new_key()


class Mailbox(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        if event := envelope.get_event():
            self.events.append(event)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made, root = Mailbox(), logging.getLogger()
    before = list(root.handlers)
    start_reporting("http://public@127.0.0.1:1/1", made)
    yield made
    root.handlers[:] = before
    sentry_sdk.get_global_scope().set_client(None)


def test_reports_carry_no_secret() -> None:
    event = {
        "message": f"failed for {KEY}",
        "user": {"email": "ann@example.com"},
        "request": {"url": "/x", "headers": {"Authorization": KEY}, "cookies": "a=b", "data": "body"},
        "extra": {"password": "hunter2", "nested": [{"api_key": "k", "note": f"see {KEY}"}]},
    }
    told = str(_scrubbed(event, None))
    assert KEY not in told
    assert "hunter2" not in told
    assert "ann@example.com" not in told
    assert "/x" in told


def broken(*_: object, **__: object) -> Any:
    seen = str(uuid.UUID(int=0xC0FFEE))  # noqa: F841  # what a report of local variables would show
    raise RuntimeError(f"no luck with {KEY}")


def the_only_event(mailbox: Mailbox) -> Any:
    (event,) = mailbox.events
    (error,) = event["exception"]["values"]
    assert (error["type"], error["value"]) == ("RuntimeError", "no luck with moor_***")
    told = json.dumps(event)
    assert KEY not in told
    assert str(uuid.UUID(int=0xC0FFEE)) not in told
    return event


class BrokenQuotas:
    __getattr__ = broken


def test_a_bug_in_the_gateway_is_reported_once(
    mailbox: Mailbox, gateway: GatewayDriver, world: World, key_of: Callable[..., str]
) -> None:
    with tenant_scope(world.acme.id):
        server = services.create_from_template(world.acme, template="echo", slug="echo", actor=world.actor)
        services.publish(server, actor=world.actor)
    gateway.settle()
    plane = gateway.app.plane
    kept, plane.quotas = plane.quotas, BrokenQuotas()
    try:
        reply = gateway.modern(f"{world.acme.slug}/echo", "ping", key=key_of(world.acme))
    finally:
        plane.quotas = kept
    assert reply.status == 500
    event = the_only_event(mailbox)
    assert event["logentry"]["formatted"] == "gateway.failed"
    assert event["tags"]["request_id"] == reply.headers["x-request-id"]


def test_work_that_breaks_is_reported_once_an_attempt(mailbox: Mailbox, world: World) -> None:
    def work(job: Any, progress: Progress) -> dict[str, Any]:
        return broken()

    kind = f"test.{uuid.uuid4().hex}"
    jobs.register(kind)(work)
    with tenant_scope(world.acme.id):
        job = jobs.enqueue(kind, tenant_id=world.acme.id, payload={})
    jobs.run(job.id)
    event = the_only_event(mailbox)
    assert event["extra"]["job"] == str(job.id)


def test_what_strangers_send_is_not_reported(mailbox: Mailbox) -> None:
    logging.getLogger("django.security.DisallowedHost").error("Invalid HTTP_HOST header.")
    with override_settings(ALLOWED_HOSTS=["mooring.example"]):
        assert Client(headers={"host": "evil.example"}).get("/").status_code == 400
    assert mailbox.events == []


def test_a_logger_reports_so_many_lines_a_minute_and_holds_up_no_other(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [600.0]
    monkeypatch.setattr("mooring.reporting.time.monotonic", lambda: now[0])
    for _ in range(A_MINUTE + 5):
        logging.getLogger("test.loud").error("again")
    assert len(mailbox.events) == A_MINUTE
    logging.getLogger("test.quiet").error("once")
    assert len(mailbox.events) == A_MINUTE + 1
    now[0] += 60
    logging.getLogger("test.loud").error("again")
    assert len(mailbox.events) == A_MINUTE + 2


def page(request: HttpRequest) -> Any:
    return broken()


urlpatterns = [path("page", page)]


def test_a_page_that_breaks_is_reported_once_although_django_logs_it_too(mailbox: Mailbox) -> None:
    with override_settings(ROOT_URLCONF=__name__):
        answer = Client(raise_request_exception=False).get("/page")
    assert answer.status_code == 500
    assert the_only_event(mailbox)["transaction"]
