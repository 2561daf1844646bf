"""Uploaded code: what a worker does, dies of and does again; which code a draft may name; what is kept."""

from __future__ import annotations

import hashlib
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connections, router
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from mooring import jobs
from mooring.audit.models import AuditEvent
from mooring.errors import Conflict, InvalidInput, NotFound, Unavailable
from mooring.jobs.models import Job
from mooring.scope import system_scope, tenant_scope
from servers import services, tasks
from servers.importers import code
from servers.models import (
    Build,
    CallRecord,
    Import,
    Server,
    Upload,
    UpstreamDefinition,
    UpstreamState,
    Version,
)
from servers.runner.engine import BuildEvent
from servers.runner.errors import BuildFailed, Unbuildable
from servers.services import building, keeping
from servers.services.artifacts import build_of
from servers.services.drift import drifts_of
from servers.services.rebuilding import build_again, named_by_servers
from tests.coding import PROGRAM, coded, fake_runner, offering, tool
from tests.conftest import World
from tests.product.processes import until
from tests.runners import FakeRunner

__all__ = ["coded", "fake_runner"]


@pytest.fixture
def weather(world: World) -> Server:
    with tenant_scope(world.acme.id):
        return services.create_server(world.acme, slug="weather", title="Weather", actor=world.actor)


def handed_in(world: World, server: Server, data: bytes = PROGRAM, **more: Any) -> Build:
    with tenant_scope(world.acme.id):
        return services.start_build(server, actor=world.actor, name="weather.py", data=data, **more)


def fresh(build: Build) -> Build:
    with tenant_scope(build.tenant_id):
        return Build.objects.select_related("job", "server", "upload").get(id=build.id)


def built(world: World, server: Server, data: bytes = PROGRAM, **more: Any) -> Build:
    build = handed_in(world, server, data, **more)
    assert build.job is not None
    assert jobs.run(build.job.id)
    return fresh(build)


def accepted(world: World, server: Server, data: bytes = PROGRAM, **more: Any) -> Build:
    build = built(world, server, data)
    with tenant_scope(world.acme.id):
        assert services.accept_build(build, actor=world.actor, **more) == []
        server.refresh_from_db()
    return build


# ---- what a worker does


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


# ---- what is handed in


def test_a_name_that_is_a_server_elsewhere_is_refused(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    build = built(world, weather)
    with tenant_scope(world.acme.id):
        services.save_upstream(
            weather, actor=world.actor, name="main", definition={"url": "https://far.example"}
        )
        with pytest.raises(Conflict, match="server elsewhere"):
            services.accept_build(build, actor=world.actor)
    with pytest.raises(Conflict, match="server elsewhere"):
        handed_in(world, weather)


def test_an_organisation_has_a_few_builds_at_once(world: World, weather: Server) -> None:
    for number in range(keeping.MOST_AT_ONCE):
        handed_in(world, weather, PROGRAM + str(number).encode())
    with pytest.raises(Conflict, match="under way"):
        handed_in(world, weather)


def test_uploads_of_an_organisation_are_bounded_together(
    world: World, weather: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "UPLOADED_BYTES", len(PROGRAM) + 5)
    handed_in(world, weather)
    handed_in(world, weather)  # the same bytes are there already
    with pytest.raises(Conflict, match="together"):
        handed_in(world, weather, PROGRAM + b"# longer")


def test_builds_of_an_organisation_are_bounded_in_number_and_in_what_they_take(
    world: World, weather: Server, coded: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = built(world, weather)
    monkeypatch.setattr(keeping, "BUILT_BYTES", build.artifact_size)
    with pytest.raises(Conflict, match="delete servers") as refused:
        handed_in(world, weather)
    assert refused.value.reason == "too_much_code"
    monkeypatch.setattr(keeping, "MOST_BUILDS", 1)
    with tenant_scope(world.acme.id), pytest.raises(Conflict, match="has 1 builds") as refused:
        services.try_again(build, actor=world.actor)
    assert refused.value.reason == "too_many_builds"
    with tenant_scope(world.globex.id):
        theirs = services.create_server(world.globex, slug="weather", title="W", actor=world.actor)
        assert services.start_build(theirs, actor=world.actor, name="weather.py", data=PROGRAM)


# ---- which code a draft may name


def test_only_code_that_the_organisation_has_built_can_be_named(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    build = built(world, weather)
    with tenant_scope(world.globex.id):
        theirs = services.create_server(world.globex, slug="weather", title="W", actor=world.actor)
        named = {"mooring": 1, "server": {"title": "W"}, "upstreams": {"main": {"code": build.artifact}}}
        for write in (
            lambda: services.replace_draft(theirs, named, actor=world.actor),
            lambda: services.save_upstream(
                theirs, actor=world.actor, name="main", definition={"code": build.artifact}
            ),
            lambda: services.update_server(theirs, actor=world.actor, upstreams=named["upstreams"]),
            lambda: services.publish(theirs, actor=world.actor, manifest=named),
        ):
            with pytest.raises(InvalidInput) as refused:
                write()
            assert refused.value.reason == "strange_code"
        kept, refusal = services.import_now(theirs, actor=world.actor, name="x", document=_json(named))
        assert refusal is not None
        assert (refusal.reason, kept.state) == ("strange_code", "failed")


def _json(value: Any) -> str:
    import json

    return json.dumps(value)


def test_code_is_not_looked_at_as_servers_elsewhere_are(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    accepted(world, weather)
    with tenant_scope(world.acme.id):
        services.publish(weather, actor=world.actor)
        assert not UpstreamState.objects.filter(server=weather).exists()
        with pytest.raises(Conflict, match="uploaded"):
            services.start_look(weather, name="main")
        with pytest.raises(NotFound):
            services.start_look(weather, name="other")


def test_what_a_person_wrote_stays_when_new_code_is_accepted(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    coded.engine.offer = offering(tool("forecast", "One."))
    accepted(world, weather)
    with tenant_scope(world.acme.id):
        manifest = services.draft_manifest(weather)
        manifest["tools"][0] |= {"name": "outlook", "description": "Ours."}
        services.replace_draft(weather, manifest, actor=world.actor)
    coded.engine.offer = offering(tool("forecast", "Two.", inputSchema={"type": "object", "required": []}))
    build = accepted(world, weather, PROGRAM + b"#")
    with tenant_scope(world.acme.id):
        (part,) = services.draft_manifest(weather)["tools"]
        assert (part["name"], part["description"]) == ("outlook", "Ours.")
        assert part["input_schema"] == {"type": "object", "required": []}
        assert weather.upstreams["main"]["code"] == build.artifact
        assert drifts_of(weather) == []


def test_going_back_to_older_code_knows_what_that_offered(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    coded.engine.offer = offering(tool("forecast", "One."))
    accepted(world, weather)
    with tenant_scope(world.acme.id):
        first = services.publish(weather, actor=world.actor)
    coded.engine.offer = offering(tool("forecast", "Two."))
    accepted(world, weather, PROGRAM + b"#")
    with tenant_scope(world.acme.id):
        second = services.publish(weather, actor=world.actor)
        assert [second.number, len(_sources(weather))] == ["1.0.1", 1]
        services.rollback(weather, first, actor=world.actor)
        assert len(_sources(weather)) == 2
        assert services.live_drifts(weather) == []


def _sources(server: Server) -> set[str]:
    return set(UpstreamDefinition.objects.filter(server=server).values_list("source", flat=True))


def test_instructions_of_the_code_are_taken_where_the_server_has_none(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    coded.engine.offer = offering(tool("forecast"), instructions="Ask for a city.", mode="session")
    accepted(world, weather)
    assert weather.instructions == "Ask for a city."
    assert weather.upstreams["main"]["mode"] == "session"
    coded.engine.offer = offering(tool("forecast"), instructions="Other.")
    accepted(world, weather, PROGRAM + b"#")
    assert weather.instructions == "Ask for a city."


def test_what_a_server_lists_wrongly_is_left_out_and_told(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    coded.engine.offer = offering(tool("one"), tool("one"), {"name": "two"}, {"inputSchema": {}})
    build = built(world, weather)
    assert [one["name"] for one in build.offer["tools"]] == ["one"]
    assert len(build.offer["problems"]) == 3


# ---- what is kept


def aged(*rows: Any, days: float = 31) -> None:
    with system_scope():
        for row in rows:
            type(row).objects.filter(id=row.id).update(created_at=timezone.now() - timedelta(days=days))


@pytest.fixture
def old(world: World, weather: Server, coded: FakeRunner) -> dict[str, Build]:
    """Builds of 31 days ago, by what became of them."""
    coded.engine.offer = offering(tool("a"))
    published = accepted(world, weather, b"# published")
    with tenant_scope(world.acme.id):
        services.publish(weather, actor=world.actor)
    coded.engine.offer = offering(tool("b"))
    drafted = accepted(world, weather, b"# drafted")
    unused = built(world, weather, b"# unused")
    made = {"published": published, "drafted": drafted, "unused": unused}
    aged(*made.values(), *(build.upload for build in made.values()))
    return made


def left(world: World) -> set[str]:
    with tenant_scope(world.acme.id):
        return {bytes(upload.data).decode() for upload in Upload.objects.all()}


def test_code_that_nothing_names_goes_after_a_month_and_the_rest_stays(
    world: World, weather: Server, old: dict[str, Build]
) -> None:
    young = built(world, weather, b"# young")
    waiting = handed_in(world, weather, b"# waiting")
    aged(waiting)
    tasks.purge()
    assert left(world) == {"# published", "# drafted", "# young", "# waiting"}
    assert fresh(young).state == "done"
    with tenant_scope(world.acme.id):
        assert build_of(weather, old["published"].artifact) is not None


def test_of_many_builds_of_one_artifact_the_newest_stays(
    world: World, weather: Server, old: dict[str, Build], coded: FakeRunner
) -> None:
    coded.engine.offer = offering(tool("a"))
    again = built(world, weather, b"# published")
    assert again.artifact == old["published"].artifact
    aged(again, days=30.5)
    tasks.purge()
    with tenant_scope(world.acme.id):
        kept = Build.objects.filter(artifact=again.artifact)
        assert [build.id for build in kept] == [again.id]
    assert "# published" in left(world)


def test_of_a_server_the_newest_builds_keep_their_logs_and_surplus_ones_go_after_a_day(
    world: World, weather: Server, old: dict[str, Build], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "NEWEST", 2)
    newest = [built(world, weather, f"# {number}".encode()) for number in range(4)]
    aged(*newest[:2], *(build.upload for build in newest[:2]), days=1.1)
    tasks.purge()
    assert left(world) == {"# published", "# drafted", "# 2", "# 3"}
    assert [bool(fresh(build).log) for build in newest[2:]] == [True, True]
    published = fresh(old["published"])
    assert (published.log, published.log_dropped) == ("", len(old["published"].log))
    with tenant_scope(world.acme.id):
        assert build_of(weather, published.artifact) == published


def test_code_of_deleted_servers_goes_unless_another_server_has_taken_it(
    world: World, weather: Server, coded: FakeRunner
) -> None:
    with tenant_scope(world.acme.id):
        servers = [
            services.create_server(world.acme, slug=slug, title=slug, actor=world.actor)
            for slug in ("alone", "copied", "drafted")
        ]
    digests = []
    for server in servers:
        coded.engine.offer = offering(tool(server.slug))
        digests.append(accepted(world, server, f"# {server.slug}".encode()).artifact)
    with tenant_scope(world.acme.id):
        for server in servers:
            services.publish(server, actor=world.actor)
        for server, digest in zip((weather, weather), digests[1:], strict=True):
            services.save_upstream(server, actor=world.actor, name="main", definition={"code": digest})
            if digest == digests[1]:
                services.publish(server, actor=world.actor)
        for server in servers:
            services.delete_server(server, actor=world.actor)
    tasks.purge()
    assert left(world) == {"# alone", "# copied", "# drafted"}, "a day has not passed"
    with tenant_scope(world.acme.id):
        aged(*Upload.objects.all(), days=2)
    tasks.purge()
    assert left(world) == {"# copied", "# drafted"}
    assert set(coded.engine.artifacts) >= set(digests[1:])
    assert digests[0] not in coded.engine.artifacts


def published(world: World, server: Server, number: int, coded: FakeRunner) -> Build:
    coded.engine.offer = offering(tool(f"tool{number}"))
    build = accepted(world, server, f"# {number}".encode())
    with tenant_scope(world.acme.id):
        services.publish(server, actor=world.actor, number=f"{number}.0.0")
    return build


def test_code_of_old_versions_goes_unless_a_channel_a_member_or_the_draft_names_it(
    world: World, weather: Server, coded: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "NEWEST", 2)
    builds = [published(world, weather, number, coded) for number in range(1, 7)]
    with tenant_scope(world.acme.id):
        whole = services.create_server(world.acme, slug="whole", title="Whole", actor=world.actor)
        members = [{"server": "weather", "channel": "1.0.0"}]
        manifest = {"mooring": 1, "server": {"title": "Whole"}, "members": members}
        services.replace_draft(whole, manifest, actor=world.actor)
        versions = {version.number: version for version in Version.objects.filter(server=weather)}
        services.rollback(weather, versions["3.0.0"], actor=world.actor)
        services.save_upstream(
            weather, actor=world.actor, name="main", definition={"code": builds[1].artifact}
        )
    aged(*builds, *(build.upload for build in builds))
    tasks.purge()
    assert left(world) == {"# 1", "# 2", "# 3", "# 5", "# 6"}
    with tenant_scope(world.acme.id):
        with pytest.raises(Conflict, match="is not kept any more") as refused:
            services.rollback(weather, versions["4.0.0"], actor=world.actor)
        assert refused.value.reason == "code_forgotten"
        services.rollback(weather, versions["5.0.0"], actor=world.actor)
        for act in (services.try_again, services.accept_build):
            with pytest.raises(NotFound, match="no such build"):
                act(builds[3], actor=world.actor)


def test_an_organisation_that_is_full_has_room_again_when_old_versions_have_gone(
    world: World, weather: Server, coded: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "NEWEST_WHEN_FULL", 2)
    builds = [published(world, weather, number, coded) for number in range(1, 5)]
    monkeypatch.setattr(keeping, "BUILT_BYTES", sum(build.artifact_size for build in builds))
    with pytest.raises(Conflict) as refused:
        handed_in(world, weather)
    assert refused.value.reason == "too_much_code"
    aged(*builds, *(build.upload for build in builds), days=1.1)
    tasks.purge()
    assert left(world) == {"# 3", "# 4"}
    assert built(world, weather).artifact


def test_code_in_use_does_not_hide_what_is_to_go(
    world: World, weather: Server, old: dict[str, Build]
) -> None:
    aged(old["published"], old["drafted"], days=4_000)
    with system_scope():
        while keeping.forget(timezone.now(), timedelta(days=30), most=1):
            pass
    assert left(world) == {"# published", "# drafted"}


def test_uploads_are_forgotten_without_reading_them(
    world: World, weather: Server, old: dict[str, Build]
) -> None:
    with system_scope():
        connection = connections[router.db_for_write(Upload)]
        with CaptureQueriesContext(
            connection,
        ) as asked:
            keeping.forget(timezone.now(), timedelta(days=30))
    assert "# unused" not in left(world)
    assert not [query["sql"] for query in asked if '"data"' in query["sql"]]


def test_what_is_accepted_while_old_builds_are_forgotten_stays(
    world: World, weather: Server, old: dict[str, Build], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []
    unused = keeping._unused

    def and_then_accepted(tenant: Any, *rest: Any) -> list[Any]:
        found = unused(tenant, *rest)
        if tenant == world.acme.id and not looked:
            looked.append(found)
            with tenant_scope(world.acme.id):
                services.accept_build(old["unused"], actor=world.actor)
        return found

    monkeypatch.setattr(keeping, "_unused", and_then_accepted)
    tasks.purge()
    assert looked == [[old["unused"].id]]
    assert "# unused" in left(world)


def test_an_organisation_whose_code_cannot_be_forgotten_does_not_hold_up_the_others(
    world: World, weather: Server, old: dict[str, Build], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenant_scope(world.globex.id):
        theirs = services.create_server(world.globex, slug="theirs", title="T", actor=world.actor)
        build = services.start_build(theirs, actor=world.actor, name="weather.py", data=b"# theirs")
    assert build.job is not None
    assert jobs.run(build.job.id)
    aged(build)
    unused = keeping._unused
    asked = []

    def in_use(tenant: Any, *rest: Any) -> list[Any]:
        asked.append(tenant)
        if asked == [world.acme.id, world.acme.id]:
            raise IntegrityError("A build was begun with it.")
        return unused(tenant, *rest)

    monkeypatch.setattr(keeping, "_tenants_with_old", lambda _: [world.acme.id, world.globex.id])
    monkeypatch.setattr(keeping, "_unused", in_use)
    tasks.purge()
    assert "# unused" in left(world)
    with tenant_scope(world.globex.id):
        assert not Build.objects.exists()


def test_documents_to_import_go_after_a_month(world: World) -> None:
    with tenant_scope(world.acme.id):
        old, _ = (
            services.start_import(world.acme, actor=world.actor, name=name, document="{", url=None)
            for name in ("old", "young")
        )
    aged(old)
    tasks.purge()
    with tenant_scope(world.acme.id):
        assert [row.name for row in Import.objects.all()] == ["young"]
