"""Uploaded code: what is kept, and what goes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connections, router
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from mooring import jobs
from mooring.errors import Conflict, NotFound
from mooring.scope import system_scope, tenant_scope
from servers import services, tasks
from servers.models import (
    Build,
    Import,
    Server,
    Upload,
    Version,
)
from servers.services import keeping
from servers.services.artifacts import build_of
from tests.coding import coded, fake_runner, offering, tool
from tests.conftest import World
from tests.runners import FakeRunner
from tests.servers.services.uploads import accepted, aged, built, fresh, handed_in, weather

__all__ = ["coded", "fake_runner", "weather"]


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
