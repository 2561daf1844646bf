"""Uploaded code: what a worker does, dies of and does again."""

from __future__ import annotations

import hashlib
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from mooring import jobs
from mooring.audit.models import AuditEvent
from mooring.errors import Unavailable
from mooring.jobs.models import Job
from mooring.scope import system_scope, tenant_scope
from servers import services, tasks
from servers.importers import code
from servers.models import (
    CallRecord,
    Server,
)
from servers.runner.engine import BuildEvent
from servers.runner.errors import BuildFailed, Unbuildable
from servers.services import building
from servers.services.rebuilding import build_again, named_by_servers
from tests.coding import PROGRAM, coded, fake_runner, offering, tool
from tests.conftest import World
from tests.product.processes import until
from tests.runners import FakeRunner
from tests.servers.services.uploads import accepted, built, fresh, handed_in, weather

__all__ = ["coded", "fake_runner", "weather"]


def test_a_build_is_recorded_and_its_code_kept_as_it_was_handed_in(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    build = built(world, weather)
    assert (build.state, build.stage, build.author) == ("done", "done", world.actor.name)
    assert bytes(build.upload.data) == PROGRAM
    assert build.upload.digest == hashlib.sha256(PROGRAM).hexdigest()
    with tenant_scope(world.acme.id):
        said = [event.action for event in AuditEvent.objects.filter(target_kind="build").order_by("sequence")]
    assert said == ["build.started", "build.finished"]


def test_a_worker_that_dies_in_the_middle_leaves_a_build_that_is_done_once_more_and_once(
    world: World, weather: Server, coded: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = handed_in(world, weather)
    assert build.job is not None
    coded.do(lambda engine: engine.build_gate.clear())
    dead = threading.Thread(target=_work, args=(build.job.id,))
    dead.start()
    until(lambda: "try" in fresh(build).log, "the build stands still")
    with system_scope():
        # Its lease lapses, as it does when a process is killed; another one takes the job.
        Job.objects.filter(id=build.job.id).update(lease_until=timezone.now() - timedelta(seconds=1))
    coded.do(lambda engine: engine.build_gate.set())
    until(lambda: jobs.run(build.job.id) or fresh(build).artifact, "somebody ends it")
    dead.join()
    done = fresh(build)
    assert done.state == "done"
    assert done.log.count("done weather.py") == 1
    with tenant_scope(world.acme.id):
        assert AuditEvent.objects.filter(target_kind="build", action="build.finished").count() == 1


def _work(job: Any) -> None:
    try:
        jobs.run(job)
    finally:
        connections.close_all()


def test_whoever_has_lost_the_job_hangs_up_on_the_runner(coded: FakeRunner) -> None:
    class Lost(Exception):
        pass

    def told(events: Any) -> None:
        if any(event.stage == "try" for event in events):
            raise Lost

    coded.do(lambda engine: engine.build_gate.clear())
    spec = building.BuildSpec(name="x.py", when=timezone.now())
    with pytest.raises(Lost):
        code.build(coded.folder, spec, PROGRAM, told=told)
    coded.do(lambda engine: engine.build_gate.set())
    # Cancelled before its end: nothing came of it.
    assert not coded.engine.artifacts


def test_what_may_pass_is_tried_again_and_what_may_not_fails_at_once(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    coded.engine.offer = BuildFailed("The index does not answer.")
    build = handed_in(world, weather)
    assert build.job is not None
    assert not jobs.run(build.job.id)
    waiting = fresh(build)
    assert (waiting.state, waiting.problem) == ("waiting", "The index does not answer.")
    coded.engine.offer = Unbuildable("It is no program.", line=7)
    with system_scope():
        Job.objects.filter(id=build.job.id).update(lease_until=None)
    assert jobs.run(build.job.id)
    failed = fresh(build)
    assert (failed.state, failed.error, failed.failure) == (
        "failed",
        "It is no program.",
        {"code": "unbuildable", "line": 7},
    )


def test_a_runner_that_is_away_is_waited_for(
    world: World, weather: Server, settings: Any, tmp_path: Any
) -> None:
    settings.RUNNER_DIR = tmp_path
    build = handed_in(world, weather)
    assert build.job is not None
    assert not jobs.run(build.job.id)
    assert "cannot be reached" in fresh(build).problem


def test_the_log_keeps_its_end_within_its_bound(world: World, weather: Server) -> None:
    build = handed_in(world, weather)
    with tenant_scope(world.acme.id):
        for number in range(30):
            building.hear(build.id, [BuildEvent("install", f"{number:05} " + "x" * 9_993, 0.0)], attempt=0)
    long = fresh(build)
    assert len(long.log) == building.LOG_CHARACTERS
    assert long.log_dropped == 30 * 10_000 - building.LOG_CHARACTERS
    assert long.log.endswith("x\n")
    assert "00029 " in long.log
    assert long.log.startswith("00010 ")


def test_who_has_begun_an_earlier_attempt_has_nothing_more_to_say(world: World, weather: Server) -> None:
    build = handed_in(world, weather)
    with tenant_scope(world.acme.id):
        first, second = building.begin(build.id), building.begin(build.id)
        assert first is not None
        assert second is not None
        for order, line in ((first, "late"), (second, "in time")):
            building.hear(build.id, [BuildEvent("install", line, 0.0)], attempt=order.attempt)
    assert fresh(build).log == "in time\n"


def test_an_artifact_that_a_runner_has_lost_is_built_again_from_its_upload(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    build = accepted(world, weather)
    coded.engine.artifacts.clear()
    with tenant_scope(world.acme.id):
        assert build_again(weather.id, build.artifact)
        assert build_again(weather.id, build.artifact)
        assert not build_again(weather.id, "0" * 64)
        waiting = list(Job.objects.filter(state="waiting"))
    (job,) = waiting
    assert jobs.run(job.id)
    assert list(coded.engine.artifacts) == [build.artifact]
    first, second = (spec for spec, _ in coded.engine.builds)
    assert first.when == second.when
    assert fresh(build).state == "accepted"


def test_what_calls_have_found_missing_is_built_again(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    build = accepted(world, weather)
    with tenant_scope(world.acme.id):
        version = services.publish(weather, actor=world.actor)
        for code in ("code_missing", "code_missing", "upstream_failed"):
            _called(world, weather, version.number, code)
    tasks.rebuild_missing_code()
    tasks.rebuild_missing_code()
    job = fresh(build).job
    assert job is not None
    assert (job.state, job.payload) == ("waiting", {"build": str(build.id), "again": True})
    assert jobs.run(job.id)
    # What was built again and is missing still is built again; what failed to be is left alone for a while.
    tasks.rebuild_missing_code()
    same = fresh(build).job
    assert same is not None
    assert same.id == job.id
    with tenant_scope(world.acme.id):
        _called(world, weather, version.number, "code_missing")
    tasks.rebuild_missing_code()
    again = fresh(build).job
    assert again is not None
    assert again.id != job.id
    coded.engine.offer = Unbuildable("No more.")
    assert jobs.run(again.id)
    with tenant_scope(world.acme.id):
        _called(world, weather, version.number, "code_missing")
    tasks.rebuild_missing_code()
    failed = fresh(build).job
    assert failed is not None
    assert (failed.id, failed.state) == (again.id, "failed")


def _called(world: World, server: Server, version: str, code: str) -> None:
    CallRecord.objects.create(
        tenant=world.acme,
        server_id=server.id,
        server_slug=server.slug,
        version=version,
        time=timezone.now(),
        request_id="r",
        principal_kind="user",
        method="tools/call",
        status="error",
        code=code,
        duration_us=1,
        request_bytes=1,
        answer_bytes=1,
    )


def test_a_build_that_gives_another_artifact_than_before_says_so(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    build = built(world, weather)
    coded.engine.offer = offering(tool("another"))
    with tenant_scope(world.acme.id):
        build_again(weather.id, build.artifact)
    job = fresh(build).job
    assert job is not None
    assert jobs.run(job.id)
    with tenant_scope(world.acme.id):
        job.refresh_from_db()
    assert job.state == "failed"
    assert "instead of" in job.error
    assert fresh(build).artifact == build.artifact


def test_what_drafts_and_channels_name_is_built_again_before_anybody_calls_it(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    coded.engine.offer = offering(tool("old"))
    live = accepted(world, weather, b"# live")
    with tenant_scope(world.acme.id):
        services.publish(weather, actor=world.actor)
    coded.engine.offer = offering(tool("new"))
    draft, unused = accepted(world, weather, b"# draft"), built(world, weather, b"# unused")
    tasks.rebuild_lost_code()
    with tenant_scope(world.acme.id):
        assert not Job.objects.filter(state="waiting").exists()
    coded.engine.artifacts.clear()
    tasks.rebuild_lost_code()
    tasks.rebuild_lost_code()
    with tenant_scope(world.acme.id):
        again = {job.payload["build"] for job in Job.objects.filter(state="waiting")}
    assert again == {str(live.id), str(draft.id)}
    assert str(unused.id) not in again


@pytest.mark.parametrize("channel", ["live", "1.0.0"])
def test_code_of_members_and_drafts_that_calls_have_found_missing_is_built_again(
    world: World, weather: Server, coded: FakeRunner, channel: str
) -> None:
    coded.engine.offer = offering(tool("old"))
    live = accepted(world, weather, b"# live")
    with tenant_scope(world.acme.id):
        services.publish(weather, actor=world.actor)
        whole = services.create_server(world.acme, slug="whole", title="Whole", actor=world.actor)
        of_weather = {
            "mooring": 1,
            "server": {"title": "Whole"},
            "members": [{"server": "weather", "channel": channel}],
        }
        services.replace_draft(whole, of_weather, actor=world.actor)
        version = services.publish(whole, actor=world.actor)
    coded.engine.offer = offering(tool("new"))
    draft = accepted(world, weather, b"# draft")
    with tenant_scope(world.acme.id):
        _called(world, whole, version.number, "code_tampered")
        _called(world, weather, "draft", "code_missing")
    tasks.rebuild_missing_code()
    with tenant_scope(world.acme.id):
        again = {job.payload["build"] for job in Job.objects.filter(state="waiting")}
    assert again == {str(live.id), str(draft.id)}


@pytest.mark.parametrize("offers_the_same", [True, False])
def test_after_an_upgrade_of_python_the_new_artifact_stands_in_if_it_offers_the_same(
    world: World, weather: Server, coded: FakeRunner, offers_the_same: bool
) -> None:
    coded.engine.offer = offering(tool("forecast"))
    build = accepted(world, weather)
    coded.engine.artifacts.clear()
    name = "forecast" if offers_the_same else "another"
    coded.engine.offer = offering(tool(name), python="3.13.1", size=7)
    with tenant_scope(world.acme.id):
        assert build_again(weather.id, build.artifact)
    job = fresh(build).job
    assert job is not None
    assert jobs.run(job.id)
    assert (build.artifact in coded.engine.artifacts) == offers_the_same
    with tenant_scope(world.acme.id):
        replaced = AuditEvent.objects.filter(action="build.replaced").count()
        job.refresh_from_db()
    assert (replaced, job.state) == ((1, "done") if offers_the_same else (0, "failed"))
    assert fresh(build).artifact == build.artifact


def test_a_replacement_is_recorded_once_the_runner_lets_it_stand_in(
    world: World, weather: Server, coded: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    coded.engine.offer = offering(tool("forecast"))
    build = accepted(world, weather)
    coded.engine.offer = offering(tool("forecast"), python="3.13.1", size=7)
    with tenant_scope(world.acme.id):
        assert build_again(weather.id, build.artifact)
    job = fresh(build).job
    assert job is not None

    def away(*_: Any, **__: Any) -> None:
        raise Unavailable("The runner does not answer.")

    def replaced() -> int:
        with tenant_scope(world.acme.id):
            return AuditEvent.objects.filter(action="build.replaced").count()

    with monkeypatch.context() as patched:
        patched.setattr(tasks, "let_stand_in", away)
        assert not jobs.run(job.id)
    assert replaced() == 0
    with system_scope():
        Job.objects.filter(id=job.id).update(lease_until=None)
    assert jobs.run(job.id)
    assert replaced() == 1


def test_code_of_a_deleted_server_is_built_again_with_the_secrets_of_the_one_that_took_it(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    with tenant_scope(world.acme.id):
        first = services.create_server(world.acme, slug="first", title="First", actor=world.actor)
    for server, value in ((first, "first"), (weather, "second")):
        with tenant_scope(world.acme.id):
            services.update_server(server, actor=world.actor, secrets_needed={"KEY": {}})
            services.set_secret(server, actor=world.actor, name="KEY", value=value)
    build = built(world, first, settings={"environment": {"KEY": "{secret:KEY}"}})
    with tenant_scope(world.acme.id):
        services.save_upstream(weather, actor=world.actor, name="main", definition={"code": build.artifact})
        services.delete_server(first, actor=world.actor)
    coded.engine.artifacts.clear()
    with tenant_scope(world.acme.id):
        assert build_again(weather.id, build.artifact)
    job = fresh(build).job
    assert job is not None
    assert jobs.run(job.id)
    assert list(coded.engine.artifacts) == [build.artifact]
    assert [spec.secrets for spec, _ in coded.engine.builds] == [{"KEY": "first"}, {"KEY": "second"}]


def test_lost_code_that_cannot_be_built_does_not_hide_the_rest(
    world: World, weather: Server, coded: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        coded.engine.offer = offering(tool(f"tool{number}"))
        with tenant_scope(world.acme.id):
            server = services.create_server(world.acme, slug=f"s{number}", title="S", actor=world.actor)
        accepted(world, server, f"# {number}".encode())
    monkeypatch.setattr(tasks, "MOST_MISSING", 1)
    monkeypatch.setattr(
        tasks,
        "named_by_servers",
        lambda: [one for one in named_by_servers() if one.tenant == world.acme.id],
    )
    coded.engine.artifacts.clear()
    coded.engine.offer = Unbuildable("No more.")
    tried = []
    for _ in range(2):
        tasks.rebuild_lost_code()
        with tenant_scope(world.acme.id):
            (job,) = Job.objects.filter(state="waiting")
        jobs.run(job.id)
        tried.append(job.payload["build"])
    assert len(set(tried)) == 2
