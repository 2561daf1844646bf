"""What the clock has done: old rows go, young ones and other people's stay."""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from mooring.ids import least_uuid7, uuid7
from mooring.scope import tenant_scope
from servers import tasks
from servers.models import CallRecord, SessionState

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tenants.models import Tenant
    from tests.conftest import World

# Older than what any other test leaves behind, so that it is the first to go.
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


def called(tenant: Tenant, when: datetime) -> None:
    with tenant_scope(tenant.id):
        CallRecord.objects.create(
            id=uuid.UUID(int=least_uuid7(when).int | secrets.randbits(62)),
            tenant=tenant,
            server_id=uuid7(),
            server_slug="echo",
            time=when,
            request_id="r",
            principal_kind="user",
            method="tools/call",
            duration_us=1,
            request_bytes=1,
            answer_bytes=1,
        )


def left(tenant: Tenant) -> list[datetime]:
    with tenant_scope(tenant.id):
        return list(CallRecord.objects.order_by("time").values_list("time", flat=True))


def test_calls_are_forgotten_once_they_are_older_than_the_setting(
    world: World, settings: SettingsWrapper
) -> None:
    settings.CALLS_KEPT_DAYS = 7
    now = timezone.now()
    young, old = now - timedelta(days=6, hours=23), now - timedelta(days=7, minutes=1)
    for tenant in (world.acme, world.globex):
        called(tenant, young)
        called(tenant, old)
    assert tasks.forget_calls() >= 2
    assert (left(world.acme), left(world.globex)) == ([young], [young])
    settings.CALLS_KEPT_DAYS = 6
    tasks.forget_calls()
    assert left(world.acme) == []


def test_a_run_is_bounded_and_the_next_goes_on_with_the_oldest(world: World) -> None:
    times = [LONG_AGO + timedelta(days=number) for number in range(7)]
    for when in times:
        called(world.acme, when)
    assert tasks.forget_calls(at_once=2, batches=2) == 4
    assert left(world.acme) == times[4:]
    assert tasks.forget_calls(at_once=2) >= 3
    assert left(world.acme) == []


def test_a_run_without_old_calls_does_nothing(world: World) -> None:
    tasks.forget_calls()
    called(world.acme, timezone.now())
    assert tasks.forget_calls() == 0
    assert len(left(world.acme)) == 1


def test_ended_sessions_are_purged_when_they_would_have_expired(world: World) -> None:
    now = timezone.now()
    with tenant_scope(world.acme.id):
        for nonce, expires in (("past", now - timedelta(minutes=1)), ("future", now + timedelta(days=1))):
            SessionState.objects.create(
                tenant=world.acme, nonce=f"{nonce}-{world.acme.slug}", server_id=uuid7(), expires_at=expires
            )
    tasks.purge()
    with tenant_scope(world.acme.id):
        assert [row.nonce for row in SessionState.objects.all()] == [f"future-{world.acme.slug}"]


def test_the_clock_knows_all_recurring_work() -> None:
    from mooring.celery import app  # celery is not loaded for every test

    names = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert {"mooring.sweep_jobs", "mooring.purge", "mooring.forget_calls"} <= names
    assert names <= set(app.tasks)
