"""Which upstreams are watched, whose turn it is, what probes leave behind, and who is told."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connections
from django.utils import timezone

from mooring.audit.models import AuditEvent
from mooring.scope import system_scope, tenant_scope
from servers import services, tasks
from servers.models import (
    Build,
    CallRecord,
    Channel,
    Server,
    Upload,
    UpstreamHour,
    UpstreamProbe,
    UpstreamWatch,
)
from servers.runtimes.base import Health
from servers.services import alerting, uptime
from servers.services.health import health_of
from servers.services.watching import Claimed, claim_due, record_probes
from tests.conftest import World

Json = dict[str, Any]
HEALTHY = Health("healthy", "", {"milliseconds": 12.5})
DOWN = Health(
    "unhealthy", "It could not be reached.", {"milliseconds": 3.0, "failure": "upstream_unreachable"}
)


def tool(name: str, url: str) -> Json:
    return {"name": name, "input_schema": {"type": "object"}, "http": {"method": "GET", "url": url}}


def manifest(*tools: Json, **more: Any) -> Json:
    return {"mooring": 1, "server": {"title": "Far"}, "tools": list(tools), **more}


class Place:
    """A server of Acme, whose draft a test writes."""

    def __init__(self, world: World) -> None:
        self.world = world
        with tenant_scope(world.acme.id):
            made = services.create_server(world.acme, slug="far", title="Far", actor=world.actor)
        self.id = made.id

    @property
    def server(self) -> Server:
        return Server.objects.get(id=self.id)

    def publish(self, made: Json, **how: Any) -> None:
        with tenant_scope(self.world.acme.id):
            services.replace_draft(self.server, made, actor=self.world.actor)
            services.publish(self.server, actor=self.world.actor, **how)

    def publish_code(self, digest: str, **how: Any) -> None:
        """As if a build had given it."""
        with tenant_scope(self.world.acme.id):
            about = {"tenant": self.world.acme, "server": self.server}
            upload = Upload.objects.create(name="x.py", digest=digest, size=1, data=b"x", **about)
            now = timezone.now()
            Build.objects.create(upload=upload, artifact=digest, when=now, finished_at=now, **about)
        self.publish(manifest(upstreams={"main": {"code": digest}}), **how)

    def watches(self) -> list[UpstreamWatch]:
        with tenant_scope(self.world.acme.id):
            return list(UpstreamWatch.objects.filter(server=self.id).select_related("server"))

    def names(self) -> set[tuple[str, str, tuple[str, ...]]]:
        return {(watch.kind, watch.name, tuple(watch.channels)) for watch in self.watches()}

    def due(self) -> None:
        """Let its upstreams be due, since longer than those of any other test."""
        with system_scope():
            long_ago = datetime(2000, 1, 1, tzinfo=UTC)
            UpstreamWatch.objects.filter(server=self.id).update(due_at=long_ago)

    def probed(self, *healths: Health) -> None:
        for health in healths:
            with system_scope():
                (watch,) = UpstreamWatch.objects.filter(server=self.id)
                record_probes([(watch, health)])


@pytest.fixture
def place(world: World) -> Place:
    return Place(world)


@pytest.fixture
def single(place: Place) -> Place:
    """One http tool is published, so there is one thing to watch."""
    place.publish(manifest(tool("a", "https://one.example/a")))
    return place


# ---- which they are --------------------------------------------------------------------------------------


def test_what_channels_serve_is_watched_each_address_once(place: Place) -> None:
    assert place.names() == set()
    tools = (tool("a", "{base}/v1/a"), tool("b", "{base}/v2/b"), tool("c", "https://two.example/{secret:t}"))
    made = manifest(
        *tools,
        {"name": "clock", "input_schema": {"type": "object"}, "static": {"kind": "clock"}},
        variables={"base": {"default": "https://one.example"}},
        secrets={"t": {}},
        upstreams={
            "peer": {"url": "https://mcp.example/mcp", "headers": {"Authorization": "Bearer {secret:t}"}}
        },
    )
    place.publish(made)
    live = ("live",)
    one, two = ("http", "https://one.example", live), ("http", "https://two.example", live)
    assert place.names() == {one, two, ("remote", "peer", live)}
    made["tools"][0]["description"] = "Changed."
    place.publish(made, channel="staging", variables={"base": "https://staging.example"})
    both = ("live", "staging")
    assert place.names() == {
        one,
        ("http", "https://two.example", both),
        ("http", "https://staging.example", ("staging",)),
        ("remote", "peer", both),
    }


def test_moving_a_channel_and_changing_its_variables_moves_what_is_watched(
    world: World, place: Place
) -> None:
    made = manifest(tool("a", "{base}/a"), variables={"base": {"default": "https://one.example"}})
    place.publish(made)
    (first,) = place.watches()
    with tenant_scope(world.acme.id):
        services.set_variables(
            place.server, channel="live", variables={"base": "https://other.example"}, actor=world.actor
        )
    assert place.names() == {("http", "https://other.example", ("live",))}
    place.publish(manifest(tool("a", "https://new.example/a")))
    assert place.names() == {("http", "https://new.example", ("live",))}
    with tenant_scope(world.acme.id):
        version = Channel.objects.get(server=place.id).version.server.versions.get(number="1.0.0")
        services.rollback(place.server, version, actor=world.actor)
    assert place.names() == {("http", "https://other.example", ("live",))}
    assert first.id not in {watch.id for watch in place.watches()}


def test_a_publish_that_changes_no_address_keeps_what_is_known_of_it(single: Place) -> None:
    single.probed(HEALTHY)
    single.publish(manifest(tool("a", "https://one.example/a"), tool("b", "https://one.example/b")))
    (watch,) = single.watches()
    assert (watch.state, watch.milliseconds) == ("healthy", 12.5)


def test_a_deleted_server_is_watched_no_more(world: World, single: Place) -> None:
    single.probed(HEALTHY)
    with tenant_scope(world.acme.id):
        services.delete_server(single.server, actor=world.actor)
        assert not UpstreamProbe.objects.exists()
    assert single.watches() == []


# ---- whose turn it is ------------------------------------------------------------------------------------


@contextmanager
def in_threads(work: Callable[[], Any], count: int) -> Iterator[list[Any]]:
    """What `work` gives in each of so many threads that begin at the same moment."""
    start, found = threading.Barrier(count), []

    def run() -> None:
        start.wait()
        try:
            with system_scope():
                found.append(work())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield found


def test_each_due_upstream_is_claimed_by_exactly_one_of_many(place: Place) -> None:
    place.publish(manifest(*[tool(f"t{n}", f"https://origin-{n}.example/a") for n in range(20)]))
    place.due()
    with in_threads(lambda: claim_due(200), 4) as claims:
        mine = [
            claimed.watch.id for claim in claims for claimed in claim if claimed.watch.server_id == place.id
        ]
    assert sorted(mine) == sorted(watch.id for watch in place.watches())
    with system_scope():
        assert place.id not in {claimed.watch.server_id for claimed in claim_due(200)}


def test_one_organisation_with_many_does_not_keep_others_waiting(world: World, place: Place) -> None:
    place.publish(manifest(*[tool(f"t{n}", f"https://origin-{n}.example/a") for n in range(30)]))
    with tenant_scope(world.globex.id):
        theirs = services.create_server(world.globex, slug="near", title="Near", actor=world.actor)
        services.replace_draft(theirs, manifest(tool("a", "https://near.example/")), actor=world.actor)
        services.publish(theirs, actor=world.actor)
    place.due()  # all of them before the other one
    long_ago = datetime(2000, 1, 2, tzinfo=UTC)
    with system_scope():
        UpstreamWatch.objects.filter(server=theirs).update(due_at=long_ago)
        claimed = [one.watch.server_id for one in claim_due(50)]
    assert (claimed.count(place.id), claimed.count(theirs.id)) == (10, 1)


def test_no_more_than_fifty_addresses_of_a_server_are_watched(place: Place) -> None:
    place.publish(manifest(*[tool(f"t{n}", f"https://origin-{n}.example/a") for n in range(60)]))
    assert len(place.watches()) == 50


def claimed_of(place: Place) -> Claimed:
    place.due()
    with system_scope():
        (claimed,) = [one for one in claim_due(500) if one.watch.server_id == place.id]
    return claimed


def test_one_that_is_called_or_new_is_due_each_minute_and_an_idle_one_every_ten(single: Place) -> None:
    def seconds() -> float:
        claimed = claimed_of(single)
        return (claimed.watch.due_at - timezone.now()).total_seconds()

    assert 55 < seconds() <= 60
    with system_scope():
        UpstreamWatch.objects.filter(server=single.id).update(created_at=timezone.now() - timedelta(days=2))
    assert 595 < seconds() <= 600
    with system_scope():
        numbers = dict.fromkeys(("duration_us", "request_bytes", "answer_bytes"), 1)
        about = {"time": timezone.now() - timedelta(hours=23), "request_id": "r", "principal_kind": "key"}
        CallRecord.objects.create(
            id=uuid.uuid4(),
            tenant=single.world.acme,
            server_id=single.id,
            server_slug="far",
            method="tools/call",
            status="ok",
            **numbers,
            **about,
        )
    assert 55 < seconds() <= 60


def test_nothing_is_claimed_of_a_suspended_organisation(world: World, single: Place) -> None:
    world.acme.suspended_at = timezone.now()
    world.acme.save()
    single.due()
    with system_scope():
        assert single.id not in {claimed.watch.server_id for claimed in claim_due(500)}


def test_a_claim_of_an_mcp_server_has_its_secrets_in_place_or_says_what_is_missing(
    world: World, place: Place
) -> None:
    peer = {"url": "{host}/mcp", "headers": {"Authorization": "Bearer {secret:token}"}}
    place.publish(
        manifest(
            variables={"host": {"default": "https://mcp.example"}},
            secrets={"token": {}},
            upstreams={"peer": peer},
        )
    )
    assert claimed_of(place).problem.startswith("This tool needs the secret token")
    with tenant_scope(world.acme.id):
        services.set_secret(place.server, name="token", value="s3cret-of-the-peer", actor=world.actor)
    claimed = claimed_of(place)
    assert claimed.endpoint is not None
    assert claimed.endpoint.url == "https://mcp.example/mcp"
    assert claimed.endpoint.headers == (("Authorization", "Bearer s3cret-of-the-peer"),)


# ---- what was found --------------------------------------------------------------------------------------


def test_probes_are_kept_and_say_since_when_and_how_often(single: Place) -> None:
    single.probed(HEALTHY)
    (first,) = single.watches()
    single.probed(HEALTHY, DOWN, DOWN)
    (watch,) = single.watches()
    assert (watch.state, watch.detail, watch.run) == ("unhealthy", "It could not be reached.", 2)
    assert first.since is not None
    assert watch.since is not None
    assert watch.since > first.since
    single.probed(Health("degraded", "It took 3.0 s to answer.", {"milliseconds": 3000.0}), HEALTHY)
    (watch,) = single.watches()
    assert (watch.state, watch.run) == ("healthy", 2)  # both found it alive
    with tenant_scope(single.world.acme.id):
        states = [probe.state for probe in UpstreamProbe.objects.filter(watch=watch)]
    assert states == ["healthy", "degraded", "unhealthy", "unhealthy", "healthy", "healthy"]


def test_what_is_found_of_an_upstream_that_went_meanwhile_is_left_out(single: Place) -> None:
    (watch,) = single.watches()
    single.publish(manifest(tool("a", "https://new.example/a")))
    (new,) = single.watches()
    with system_scope():
        record_probes([(watch, DOWN), (new, HEALTHY)])
        assert not UpstreamProbe.objects.filter(watch_id=watch.id).exists()
    assert [one.state for one in single.watches()] == ["healthy"]


# ---- by the hour -----------------------------------------------------------------------------------------


def probed_at(watch: UpstreamWatch, time: datetime, *states: str, milliseconds: float = 10.0) -> None:
    with system_scope():
        UpstreamProbe.objects.bulk_create(
            UpstreamProbe(
                tenant_id=watch.tenant_id,
                watch=watch,
                time=time + timedelta(seconds=number),
                state=state,
                milliseconds=milliseconds,
            )
            for number, state in enumerate(states)
        )


def hours(watch: UpstreamWatch) -> list[tuple[int, int, int, float | None]]:
    with system_scope():
        rows = UpstreamHour.objects.filter(watch=watch)
        return [(row.probes, row.alive, row.degraded, row.mean) for row in rows]


def test_hours_that_are_over_are_counted_again_and_again_and_stay_the_same(single: Place) -> None:
    (watch,) = single.watches()
    this = uptime.hour_of(timezone.now())
    with system_scope():
        UpstreamHour.objects.filter(
            hour__gte=this - timedelta(hours=2)
        ).delete()  # of other tests: counted so far
    probed_at(watch, this - timedelta(hours=2), "healthy", "healthy", "unhealthy", milliseconds=30.0)
    probed_at(watch, this - timedelta(hours=1), "degraded")
    probed_at(watch, this, "unhealthy")
    for _ in range(2):
        tasks.roll_up_health()
        assert hours(watch)[-2:] == [(3, 2, 0, 30.0), (1, 1, 1, 10.0)]
    probed_at(watch, this - timedelta(minutes=20), "unhealthy")  # one that came late
    tasks.roll_up_health()
    assert hours(watch)[-1] == (2, 1, 1, 10.0)


def test_probes_are_kept_for_two_days_and_hours_for_ninety(single: Place) -> None:
    (watch,) = single.watches()
    now = timezone.now()
    probed_at(watch, now - timedelta(hours=49), "healthy", "healthy")
    probed_at(watch, now - timedelta(hours=47), "healthy")
    with system_scope():
        for days in (91, 89):
            hour = uptime.hour_of(now - timedelta(days=days))
            UpstreamHour.objects.create(
                tenant_id=watch.tenant_id, watch=watch, hour=hour, probes=1, alive=1, degraded=0
            )
        assert uptime.forget(at_once=1) >= 3
        assert UpstreamProbe.objects.filter(watch=watch).count() == 1
        assert UpstreamHour.objects.filter(watch=watch).count() == 1


def test_uptime_is_the_share_of_looks_that_found_it_there(single: Place) -> None:
    (watch,) = single.watches()
    now = timezone.now()
    with tenant_scope(single.world.acme.id):
        (unseen,) = health_of(single.server).upstreams
    assert (unseen.state, unseen.uptime) == ("unknown", {"24h": None, "7d": None, "30d": None})
    with system_scope():
        for days, alive in ((3, 50), (20, 0), (40, 0)):
            hour = uptime.hour_of(now - timedelta(days=days))
            UpstreamHour.objects.create(
                tenant_id=watch.tenant_id, watch=watch, hour=hour, probes=50, alive=alive, degraded=0
            )
    single.probed(*[HEALTHY] * 49, DOWN)
    with tenant_scope(single.world.acme.id):
        health = health_of(single.server)
    (upstream,) = health.upstreams
    assert upstream.uptime == {"24h": 0.98, "7d": 0.99, "30d": 0.66}
    assert (health.state, upstream.state, upstream.day[-1].state) == ("unhealthy",) * 3
    assert [(failure.detail, failure.times) for failure in health.failures] == [
        ("It could not be reached.", 1)
    ]


def test_failures_that_are_alike_and_follow_each_other_are_told_as_one(single: Place) -> None:
    late = Health("unhealthy", "It did not answer within 5 s.", {"milliseconds": 5_000.0})
    single.probed(DOWN, DOWN, late, HEALTHY, DOWN, DOWN, DOWN)
    with tenant_scope(single.world.acme.id):
        failures = health_of(single.server).failures
    # Told apart by what was found.
    assert [(failure.detail[:12], failure.times) for failure in failures] == [
        ("It could not", 3),
        ("It did not a", 1),
        ("It could not", 2),
    ]
    assert failures[0].first < failures[0].last


def test_what_nobody_has_looked_at_for_long_is_not_known(single: Place) -> None:
    single.probed(HEALTHY)
    with tenant_scope(single.world.acme.id):
        UpstreamWatch.objects.update(probed_at=timezone.now() - timedelta(minutes=31))
        assert health_of(single.server).state == "unknown"


def test_a_server_that_needs_nothing_is_healthy(place: Place) -> None:
    place.publish(
        manifest({"name": "clock", "input_schema": {"type": "object"}, "static": {"kind": "clock"}})
    )
    with tenant_scope(place.world.acme.id):
        health = health_of(place.server)
    assert (health.state, health.upstreams, health.is_published) == ("healthy", [], True)


def test_a_server_made_of_others_is_as_well_as_they_are(world: World, single: Place) -> None:
    single.probed(DOWN)
    with tenant_scope(world.acme.id):
        whole = services.create_server(world.acme, slug="whole", title="Whole", actor=world.actor)
        services.update_server(whole, actor=world.actor, members=[{"server": "far"}])
        services.publish(whole, actor=world.actor)
        health = health_of(whole)
    assert [(one.watch.name, one.server, one.state) for one in health.upstreams] == [
        ("https://one.example", "far", "unhealthy")
    ]


# ---- who is told -----------------------------------------------------------------------------------------


def letters(world: World) -> list[tuple[str, list[str]]]:
    ours = {user.email for user in (world.alice, world.bob, world.dora, world.eve)}
    return [(letter.subject, letter.to) for letter in mail.outbox if ours & set(letter.to)]


def noted(world: World) -> list[str]:
    with tenant_scope(world.acme.id):
        actions = AuditEvent.objects.filter(action__startswith="upstream.").order_by("sequence")
        return list(actions.values_list("action", flat=True))


def test_owners_are_told_once_after_three_failures_and_once_when_it_is_well_again(
    world: World, single: Place
) -> None:
    single.probed(HEALTHY, DOWN, DOWN)
    tasks.tell_of_health()
    assert (letters(world), noted(world)) == ([], [])
    single.probed(DOWN)
    for _ in range(2):
        tasks.tell_of_health()
    to = [world.alice.email]
    bad = ("Far: https://one.example does not answer", to)
    assert (letters(world), noted(world)) == ([bad], ["upstream.unhealthy"])
    text = mail.outbox[-1].body
    (watch,) = single.watches()
    assert f"unhealthy since {watch.since:%Y-%m-%d %H:%M} UTC" in text
    assert "It could not be reached." in text
    assert f"/app/{world.acme.slug}/servers/far/health/" in text
    single.probed(HEALTHY)
    tasks.tell_of_health()
    single.probed(DOWN, HEALTHY)  # one lucky answer is no news, nor is the next failure
    tasks.tell_of_health()
    assert letters(world) == [bad]
    single.probed(HEALTHY)
    for _ in range(2):
        tasks.tell_of_health()
    assert letters(world) == [bad, ("Far: https://one.example is well again", to)]
    assert noted(world) == ["upstream.unhealthy", "upstream.recovered"]


def test_of_two_who_would_tell_one_does(world: World, single: Place) -> None:
    single.probed(DOWN, DOWN, DOWN)

    def tell() -> bool:
        with tenant_scope(world.acme.id):
            return alerting.tell(single.server.id)

    with in_threads(tell, 2) as told:
        assert sorted(told) == [False, True]
    assert noted(world) == ["upstream.unhealthy"]


def test_a_name_with_line_breaks_stays_within_the_subject(world: World, single: Place) -> None:
    with tenant_scope(world.acme.id):
        UpstreamWatch.objects.update(name="peer\nBcc: eve@example.com")
    single.probed(DOWN, DOWN, DOWN)
    tasks.tell_of_health()
    ((subject, _),) = letters(world)
    assert subject == "Far: peer Bcc: eve@example.com does not answer"


def test_a_flapping_upstream_writes_four_letters_an_hour_and_says_how_often_it_failed(
    world: World, single: Place
) -> None:
    for _ in range(6):
        single.probed(DOWN, DOWN, DOWN)
        tasks.tell_of_health()
        single.probed(HEALTHY, HEALTHY)
        tasks.tell_of_health()
    assert [subject.rsplit(" ", 1)[-1] for subject, _ in letters(world)] == ["answer", "again"] * 2
    assert len(noted(world)) == 4
    assert "It has failed 2 times within an hour." in mail.outbox[-1].body
    assert "there is none about Far before" in mail.outbox[-1].body
    assert "there is none" not in mail.outbox[-2].body
    single.probed(DOWN, DOWN, DOWN)
    an_hour_passes(single)
    tasks.tell_of_health()
    assert len(letters(world)) == 5
    assert "It has failed 7 times within an hour." in mail.outbox[-1].body


def an_hour_passes(place: Place) -> None:
    """For the letters that were written."""
    with system_scope():
        before = (timezone.now() - timedelta(minutes=61)).isoformat()
        Server.objects.filter(id=place.id).update(health_letters=[before] * 4)


def test_what_is_no_news_any_more_when_there_is_room_again_is_not_told(world: World, single: Place) -> None:
    for _ in range(2):
        single.probed(DOWN, DOWN, DOWN)
        tasks.tell_of_health()
        single.probed(HEALTHY, HEALTHY)
        tasks.tell_of_health()
    single.probed(DOWN, DOWN, DOWN)
    tasks.tell_of_health()
    single.probed(HEALTHY, HEALTHY)
    an_hour_passes(single)
    tasks.tell_of_health()
    assert len(letters(world)) == 4


def test_many_upstreams_that_fail_together_are_one_letter(world: World, place: Place) -> None:
    place.publish(manifest(*[tool(f"t{n}", f"https://origin-{n}.example/a") for n in range(30)]))
    for _ in range(3):
        watches = place.watches()
        with system_scope():
            record_probes([(watch, DOWN) for watch in watches])
    tasks.tell_of_health()
    ((subject, _),) = letters(world)
    assert subject == "Far: https://origin-0.example does not answer, and 29 more"
    assert "https://origin-1.example" in mail.outbox[-1].body
    assert "Its page tells of 10 more." in mail.outbox[-1].body
    assert noted(world) == ["upstream.unhealthy"] * 30


# ---- uploaded code ---------------------------------------------------------------------------------------

BROKEN = Health(
    "unhealthy",
    "It has crashed again and again. The last time it ended with 1.",
    {"milliseconds": 2.0, "failure": "code_broken", "log": "Traceback\nKeyError: 'REGION'\0\x1b[2J"},
)


def test_code_is_one_thing_from_version_to_version(place: Place) -> None:
    place.publish_code("a" * 64)
    assert place.names() == {("code", "main", ("live",))}
    place.probed(HEALTHY)
    (first,) = place.watches()
    place.publish_code("b" * 64)
    (second,) = place.watches()
    assert (second.id, second.state, second.declared) == (first.id, "healthy", {"code": "b" * 64})
    assert claimed_of(place).digest == "b" * 64
    place.publish_code("c" * 64, channel="staging")
    assert place.names() == {("code", "main", ("live",)), ("code", "main", ("staging",))}
    assert {watch.declared["code"][0] for watch in place.watches()} == {"b", "c"}


def test_the_last_lines_of_broken_code_are_kept_until_it_is_well_and_mailed(
    world: World, place: Place
) -> None:
    place.publish_code("a" * 64)
    place.probed(BROKEN, BROKEN, BROKEN)
    tasks.tell_of_health()
    assert letters(world) == [("Far: main does not run", [world.alice.email])]
    assert "  | Traceback\n  | KeyError: 'REGION'" in mail.outbox[-1].body
    assert "\x1b" not in mail.outbox[-1].body
    (watch,) = place.watches()
    assert watch.log.startswith("Traceback\nKeyError: 'REGION'")
    assert "\0" not in watch.log
    place.probed(HEALTHY)
    assert place.watches()[0].log == ""


def test_what_cannot_be_told_is_unknown_with_why_and_no_failure(world: World, place: Place) -> None:
    place.publish_code("a" * 64)
    place.probed(HEALTHY, *[Health("unknown", "Its runner has not answered within 5 s.")] * 4)
    tasks.tell_of_health()
    assert letters(world) == []
    with tenant_scope(world.acme.id):
        (upstream,) = health_of(place.server).upstreams
    assert (upstream.state, upstream.watch.detail) == ("unknown", "Its runner has not answered within 5 s.")
    assert (upstream.is_fresh, upstream.uptime["24h"]) == (True, 1.0)
