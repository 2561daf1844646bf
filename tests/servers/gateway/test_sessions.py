"""The end of a session is a call like others: admitted, limited, recorded. Its row is kept while it may matter."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from mooring.scope import system_scope, tenant_scope
from servers import tasks
from servers.models import CallRecord, SessionState
from servers.pipeline.journal import Journal
from tenants.models import Plan
from tenants.services import change_plan
from tests.conftest import World
from tests.product.processes import echo, host, until
from tests.servers.conftest import GatewayDriver, Reply, Session


@pytest.fixture
def session(gateway: GatewayDriver, world: World, key_of: Callable[..., str]) -> Session:
    at = host(world, echo("say"))
    gateway.settle()
    return gateway.session(at, "2025-11-25", key=key_of(world.acme))


def ended(session: Session) -> Reply:
    headers = {"authorization": f"Bearer {session.key}", "mcp-session-id": session.token}
    return session.driver.send(f"/t/{session.at}/mcp", verb="DELETE", headers=headers)


def test_an_end_is_recorded_like_any_call(session: Session, world: World) -> None:
    assert ended(session).status == 200

    def recorded() -> list[str]:
        with tenant_scope(world.acme.id):
            return list(CallRecord.objects.order_by("id").values_list("method", flat=True))

    until(lambda: "session/end" in recorded(), "the record to be shipped")
    assert recorded() == ["initialize", "session/end"]


def test_ends_count_against_the_plan(session: Session, world: World, gateway: GatewayDriver) -> None:
    plan = Plan.objects.create(name=f"tiny-{world.acme.slug}", calls_per_minute=10)
    with tenant_scope(world.acme.id):
        change_plan(world.acme, plan=plan, actor=world.actor)
    gateway.settle()
    replies = [ended(session) for _ in range(5)]
    assert 429 in {reply.status for reply in replies}
    refused = next(reply for reply in replies if reply.status == 429)
    assert int(refused.headers["retry-after"]) >= 1


def test_no_session_is_ended_while_that_cannot_be_recorded(
    session: Session, gateway: GatewayDriver, tmp_path: Path
) -> None:
    plane = gateway.app.plane
    full, kept = Journal(tmp_path, reserve=1 << 62), plane.journal
    plane.journal = full
    try:
        assert ended(session).status == 503
    finally:
        plane.journal = kept
        full.close()
    assert session.request("ping").status == 200


def test_what_is_remembered_of_sessions_goes_when_they_would_have_expired(
    session: Session, world: World, gateway: GatewayDriver
) -> None:
    other = gateway.session(session.at, "2025-11-25", key=session.key)
    assert [ended(each).status for each in (session, other)] == [200, 200]
    with system_scope():
        rows = SessionState.objects.filter(tenant_id=world.acme.id)
        old, young = rows.order_by("id")
        assert timezone.now() < old.expires_at < timezone.now() + timedelta(days=7, minutes=1)
        rows.filter(id=old.id).update(expires_at=timezone.now() - timedelta(seconds=1))
    tasks.purge()
    with system_scope():
        assert [row.id for row in rows.all()] == [young.id]
    assert other.request("ping").status == 404
