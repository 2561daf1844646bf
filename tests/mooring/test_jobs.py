"""Background work: done once by its effect, whoever dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from mooring import jobs
from mooring.errors import InvalidInput, UpstreamFailed
from mooring.jobs.broker import app
from mooring.jobs.execution import SWEPT_AT_ONCE, SWEPT_OF_A_KIND, LeaseLost
from mooring.jobs.models import BUILDS, JOBS, LEASE, MAX_ATTEMPTS, MESSAGE_LASTS, Job
from mooring.jobs.registry import Progress, Work
from mooring.scope import system_scope, tenant_scope
from servers import services
from tenants.models import Tenant
from tests.conftest import World
from tests.product.processes import until
from tests.servers.gateway.coded import fake_runner_of_the_gateway

ROOT = Path(__file__).parents[2]


def a_kind(work: Work) -> str:
    """Teach this process a kind of work that no other test knows."""
    kind = f"test.{uuid.uuid4().hex}"
    jobs.register(kind)(work)
    return kind


def enqueued(world: World, kind: str, **payload: Any) -> Job:
    with tenant_scope(world.acme.id):
        return jobs.enqueue(kind, tenant_id=world.acme.id, payload=payload)


def fresh(job: Job) -> Job:
    with tenant_scope(job.tenant_id):
        return Job.objects.get(id=job.id)


def change(job: Job, **fields: object) -> None:
    with system_scope():
        assert Job.objects.filter(id=job.id).update(**fields) == 1


def test_work_gets_its_job_shows_progress_and_leaves_a_result(world: World) -> None:
    seen: list[tuple[str, int]] = []

    def work(job: Job, progress: Progress) -> dict[str, Any]:
        progress("Half way", 50)
        shown = fresh(job)
        seen.append((shown.progress, shown.percent))
        return {"sum": job.payload["a"] + job.payload["b"]}

    job = enqueued(world, a_kind(work), a=1, b=2)
    assert job.state == Job.State.WAITING
    assert jobs.run(job.id)
    done = fresh(job)
    assert (done.state, done.result, done.percent, done.attempts) == ("done", {"sum": 3}, 100, 1)
    assert done.finished_at is not None
    assert done.lease_token is None
    assert seen == [("Half way", 50)]


def test_a_job_that_is_done_is_not_done_again(world: World) -> None:
    times: list[int] = []

    def work(job: Job, progress: Progress) -> dict[str, Any]:
        times.append(1)
        # A second message for the same job arrives while it runs.
        assert not jobs.run(job.id)
        return {}

    job = enqueued(world, a_kind(work))
    assert jobs.run(job.id)
    assert not jobs.run(job.id)
    assert len(times) == 1


def test_nothing_is_enqueued_by_a_transaction_that_fails(world: World) -> None:
    kind = a_kind(lambda job, progress: {})

    def enqueue_and_fail() -> None:
        with tenant_scope(world.acme.id), transaction.atomic():
            jobs.enqueue(kind, tenant_id=world.acme.id, payload={})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        enqueue_and_fail()
    with system_scope():
        assert not Job.objects.filter(kind=kind).exists()


def test_what_the_caller_can_mend_fails_at_once_in_its_own_words(world: World) -> None:
    def work(job: Job, progress: Progress) -> dict[str, Any]:
        raise InvalidInput("Line 3 is no YAML.")

    job = enqueued(world, a_kind(work))
    assert jobs.run(job.id)
    assert (fresh(job).state, fresh(job).error) == ("failed", "Line 3 is no YAML.")


def test_what_may_pass_is_tried_again_after_a_growing_pause_and_fails_at_last(world: World) -> None:
    def work(job: Job, progress: Progress) -> dict[str, Any]:
        raise UpstreamFailed("The origin answered 502.")

    job = enqueued(world, a_kind(work))
    pauses = []
    for _ in range(MAX_ATTEMPTS - 1):
        before = timezone.now()
        assert not jobs.run(job.id)
        resting = fresh(job)
        assert (resting.state, resting.error) == ("waiting", "The origin answered 502.")
        assert resting.lease_until is not None
        pauses.append(round((resting.lease_until - before).total_seconds()))
        assert not jobs.run(job.id), "it was tried while it rests"
        assert fresh(job).attempts == resting.attempts
        change(job, lease_until=before)
    assert pauses == [2, 4, 8, 16]
    assert jobs.run(job.id)
    assert (fresh(job).state, fresh(job).error) == ("failed", "The origin answered 502.")


def test_a_bug_is_told_without_its_inside(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def work(job: Job, progress: Progress) -> dict[str, Any]:
        raise KeyError("inside")

    job = enqueued(world, a_kind(work))
    for _ in range(MAX_ATTEMPTS):
        jobs.run(job.id)
        change(job, lease_until=timezone.now() - LEASE)
    failed = fresh(job)
    assert failed.state == Job.State.FAILED
    assert str(job.id) in failed.error
    assert "inside" not in failed.error


def test_a_kind_nobody_knows_fails_and_does_not_stop_the_worker(world: World) -> None:
    job = enqueued(world, "test.unheard-of")
    assert not jobs.run(job.id)
    assert fresh(job).state == Job.State.WAITING


def test_a_worker_that_lost_its_lease_can_neither_report_nor_finish(world: World) -> None:
    lost: list[bool] = []

    def work(job: Job, progress: Progress) -> dict[str, Any]:
        change(job, lease_token=uuid.uuid4())
        try:
            progress("Still there?", 100)
        except LeaseLost:
            lost.append(True)
        return {"by": "the late one"}

    job = enqueued(world, a_kind(work))
    assert not jobs.run(job.id)
    assert lost == [True]
    assert (fresh(job).state, fresh(job).result) == ("running", {})


def test_a_job_that_kills_every_worker_fails_with_a_clear_sentence(world: World) -> None:
    job = enqueued(world, a_kind(lambda job, progress: {}))
    change(
        job,
        state="running",
        attempts=MAX_ATTEMPTS,
        lease_token=uuid.uuid4(),
        lease_until=timezone.now() - timedelta(seconds=1),
    )
    assert not jobs.run(job.id)
    assert fresh(job).state == Job.State.FAILED
    assert "begun 5 times" in fresh(job).error


def test_two_functions_cannot_claim_one_kind() -> None:
    kind = a_kind(lambda job, progress: {})
    with pytest.raises(ValueError, match="Two functions"):
        jobs.register(kind)(lambda job, progress: {})


def test_the_web_process_does_not_import_celery_before_the_first_job() -> None:
    program = "import mooring.asgi, sys; print(sorted({'celery', 'kombu', 'mcp'} & set(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=product(),
        check=True,
        capture_output=True,
        text=True,
    )
    assert output.stdout.strip() == "[]"


# ---- a real worker ---------------------------------------------------------------------------------------


def product() -> dict[str, str]:
    return os.environ | {"DJANGO_SETTINGS_MODULE": "mooring.settings"}


# Work that waits for a line on its standard input, so that the test decides when its worker dies.
WORKER = """
import sys, uuid
import django
django.setup()
from mooring import jobs

@jobs.register("test.slow")
def work(job, progress):
    progress("Working", 10)
    print("begun", flush=True)
    sys.stdin.readline()
    return {"attempt": job.attempts}

print(jobs.run(uuid.UUID(sys.argv[1])), flush=True)
"""


def a_worker(job: Job) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(job.id)],
        cwd=ROOT,
        env=product(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line_of(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def test_the_job_of_a_killed_worker_is_finished_once_by_another(world: World) -> None:
    job = enqueued(world, "test.slow")
    first = a_worker(job)
    assert line_of(first) == "begun"
    held = fresh(job)
    assert held.state == Job.State.RUNNING
    second = a_worker(job)
    assert line_of(second) == "False", "the job of a living worker was taken"
    second.communicate()

    first.send_signal(signal.SIGKILL)
    first.communicate()
    change(job, lease_until=timezone.now() - timedelta(seconds=1))  # half a minute passes
    third = a_worker(job)
    assert line_of(third) == "begun"
    output, _ = third.communicate("go on\n", timeout=30)
    assert output.strip() == "True"
    done = fresh(job)
    assert (done.state, done.result, done.attempts) == ("done", {"attempt": 2}, 2)


def test_a_tenant_does_not_take_the_slots_of_others(world: World) -> None:
    begun: list[uuid.UUID] = []

    def work(job: Job, progress: Progress) -> dict[str, Any]:
        begun.append(job.tenant_id)
        if len(begun) == 1:
            assert not jobs.run(second.id)
            assert jobs.run(of_globex.id)
        return {}

    kind = f"test.{uuid.uuid4().hex}"
    jobs.register(kind, at_once=1)(work)
    first, second = enqueued(world, kind), enqueued(world, kind)
    with tenant_scope(world.globex.id):
        of_globex = jobs.enqueue(kind, tenant_id=world.globex.id, payload={})
    assert jobs.run(first.id)
    assert fresh(second).state == Job.State.WAITING
    assert jobs.run(second.id)
    assert begun == [world.acme.id, world.globex.id, world.acme.id]


# ---- the sweep -------------------------------------------------------------------------------------------


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[uuid.UUID]]:
    """Jobs for which the sweep sent a message; those of other tests are out of its way."""
    app.control.purge()
    with system_scope():
        Job.objects.filter(state__in=[Job.State.WAITING, Job.State.RUNNING]).update(state=Job.State.FAILED)
    sent: list[uuid.UUID] = []
    monkeypatch.setattr("mooring.jobs.execution.wake", lambda job_id, queue: sent.append(job_id))
    yield sent
    app.control.purge()


def waiting(
    world: World, kind: str, count: int, queue: str = JOBS, tenant: Tenant | None = None
) -> list[Job]:
    """For a minute already, the first the longest."""
    tenant_id = (tenant or world.acme).id
    with tenant_scope(tenant_id):
        added = [Job.objects.create(kind=kind, tenant_id=tenant_id, queue=queue) for _ in range(count)]
    for number, job in enumerate(added):
        change(job, created_at=timezone.now() - timedelta(seconds=60 - number / 10))
    return added


def test_jobs_that_wait_for_their_turn_keep_no_message_from_others(
    world: World, woken: list[uuid.UUID]
) -> None:
    kind = f"test.{uuid.uuid4().hex}"
    jobs.register(kind, at_once=1)(lambda job, progress: {})
    held_back = waiting(world, kind, SWEPT_AT_ONCE + 10, BUILDS)
    change(
        held_back[0],
        state="running",
        lease_token=uuid.uuid4(),
        lease_until=timezone.now() + timedelta(hours=1),
    )
    [of_globex] = waiting(world, kind, 1, BUILDS, world.globex)
    [in_other_queue] = waiting(world, a_kind(lambda job, progress: {}), 1)
    jobs.sweep()
    assert set(woken) == {of_globex.id, in_other_queue.id}


def test_a_heap_of_one_tenant_leaves_room_in_the_sweep(world: World, woken: list[uuid.UUID]) -> None:
    kind = a_kind(lambda job, progress: {})
    heap = waiting(world, kind, SWEPT_AT_ONCE + 10)
    [of_globex] = waiting(world, kind, 1, tenant=world.globex)
    jobs.sweep()
    assert of_globex.id in woken
    assert [job.id for job in heap if job.id in woken] == [job.id for job in heap[:SWEPT_OF_A_KIND]]


def test_a_job_gets_another_message_only_when_the_last_one_is_void(
    world: World, woken: list[uuid.UUID]
) -> None:
    [job] = waiting(world, a_kind(lambda job, progress: {}), 1)
    jobs.sweep()
    jobs.sweep()
    assert woken == [job.id]
    change(job, woken_at=timezone.now() - MESSAGE_LASTS - timedelta(seconds=1))
    jobs.sweep()
    assert woken == [job.id, job.id]


def test_a_queue_that_nobody_serves_gets_no_more_messages_than_fit(
    world: World, woken: list[uuid.UUID]
) -> None:
    kind = a_kind(lambda job, progress: {})
    waiting(world, kind, 1, BUILDS)
    [in_other_queue] = waiting(world, kind, 1)
    for _ in range(SWEPT_AT_ONCE):
        jobs.wake(uuid.uuid4(), BUILDS)
    jobs.sweep()
    assert woken == [in_other_queue.id]


def test_who_has_rested_or_had_to_wait_for_a_turn_is_woken_at_once(
    world: World, woken: list[uuid.UUID]
) -> None:
    def work(job: Job, progress: Progress) -> dict[str, Any]:
        assert not jobs.run(second.id), "two of its tenant ran at once"
        raise UpstreamFailed("The origin answered 502.")

    kind = f"test.{uuid.uuid4().hex}"
    jobs.register(kind, at_once=1)(work)
    first, second = waiting(world, kind, 2)
    jobs.sweep()
    jobs.run(first.id)
    change(first, lease_until=timezone.now() - timedelta(seconds=1))  # its pause is over
    woken.clear()
    jobs.sweep()
    assert woken == [first.id, second.id]


@pytest.fixture
def celery_worker() -> Iterator[subprocess.Popen[bytes]]:
    """A worker with nothing to do yet: what other tests have left for one would come first."""
    with system_scope():
        Job.objects.filter(state__in=[Job.State.WAITING, Job.State.RUNNING]).update(state=Job.State.FAILED)
    purge = "from mooring.celery import app; app.control.purge()"
    subprocess.run([sys.executable, "-c", purge], env=product(), check=True)
    worker = subprocess.Popen(
        [sys.executable, "-m", "mooring.cli.running", "worker", "--concurrency", "1"], env=product()
    )
    yield worker
    worker.terminate()
    worker.wait(20)


def test_a_message_wakes_a_celery_worker_and_a_lost_one_is_made_up_by_the_sweep(
    world: World, celery_worker: subprocess.Popen[bytes]
) -> None:
    job = enqueued(world, "openapi.import", **{"import": str(uuid.uuid4())})
    pause = Event()
    for _ in range(600):
        if fresh(job).attempts:
            break
        pause.wait(0.05)
    assert fresh(job).attempts, "no worker took it"
    with tenant_scope(world.acme.id):
        lost = Job.objects.create(
            kind="openapi.import", tenant_id=world.acme.id, payload={"import": str(uuid.uuid4())}
        )
    change(lost, created_at=timezone.now() - timedelta(minutes=1))
    assert jobs.sweep() >= 1
    for _ in range(600):
        if fresh(lost).attempts:
            return
        pause.wait(0.05)
    raise AssertionError("the sweep woke nobody")


def test_builds_that_take_their_time_hold_up_nothing_else(
    world: World, celery_worker: subprocess.Popen[bytes]
) -> None:
    """As many as there are slots for them, of two organisations."""
    with fake_runner_of_the_gateway() as runner:
        runner.do(lambda engine: engine.build_gate.clear())
        builds = []
        for tenant in (world.acme, world.globex):
            with tenant_scope(tenant.id):
                server = services.create_server(tenant, slug="slow", title="Slow", actor=world.actor)
                builds.append(services.start_build(server, actor=world.actor, name="slow.py", data=b"pass"))
        until(lambda: len(runner.engine.builds) == 2, "both builds to begin", 60)
        job = enqueued(world, "openapi.import", **{"import": str(uuid.uuid4())})
        until(lambda: fresh(job).attempts, "another job to be taken", 30)
        runner.do(lambda engine: engine.build_gate.set())
        for build in builds:
            assert build.job is not None
            until(lambda of=build.job: fresh(of).state == "done", "the build to end", 30)
