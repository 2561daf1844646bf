"""Uploaded code: what is handed in, and which of it a draft may name."""

from __future__ import annotations

from typing import Any

import pytest

from mooring.errors import Conflict, InvalidInput, NotFound
from mooring.scope import tenant_scope
from servers import services
from servers.models import (
    Server,
    UpstreamDefinition,
    UpstreamState,
)
from servers.services import keeping
from servers.services.drift import drifts_of
from tests.coding import PROGRAM, coded, fake_runner, offering, tool
from tests.conftest import World
from tests.runners import FakeRunner
from tests.servers.services.uploads import accepted, built, handed_in, weather

__all__ = ["coded", "fake_runner", "weather"]


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
