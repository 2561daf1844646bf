"""Processes of uploaded code, and what they say, over the REST API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mooring.audit.models import AuditEvent
from mooring.scope import tenant_scope
from servers import services
from servers.models import Server
from servers.runner.engine import RunSpec
from servers.services import running
from tests.coding import coded, fake_runner
from tests.conftest import World
from tests.mooring.api.conftest import Api
from tests.runners import FakeRunner

__all__ = ["coded", "fake_runner"]
SECRET = "hush-hush-12345"


@pytest.fixture
def process(world: World, server: str, coded: FakeRunner) -> str:
    """The name of one that runs."""
    with tenant_scope(world.acme.id):
        found = Server.objects.get(slug=server)
    spec = RunSpec(
        tenant=str(world.acme.id),
        server=str(found.id),
        digest="0" * 64,
        artifact="/nowhere",
        entry=("x",),
        secrets={"TOKEN": SECRET},
    )
    return running._asked(lambda runner: runner.ensure(spec)).instance


def say(coded: FakeRunner, *lines: str) -> None:
    """What its one server writes from now on."""
    (running_server,) = coded.engine.servers.values()
    for line in lines:
        running_server._log.note(line)


def test_processes_are_listed_with_their_state_and_ended(
    world: World, owner: Api, process: str, coded: FakeRunner
) -> None:
    (told,) = owner.get("servers/echo/processes").json()["data"]
    assert (told["instance"], told["state"], told["starts"], told["crashes"]) == (process, "ready", 1, 0)
    assert (told["digest"], told["session"], told["era"], told["in_flight"]) == ("0" * 64, "", "modern", 0)
    assert owner.delete(f"servers/echo/processes/{process}").status_code == 204
    assert owner.get("servers/echo/processes").json() == {"data": []}
    assert owner.delete(f"servers/echo/processes/{process}").status_code == 404
    with tenant_scope(world.acme.id):
        assert AuditEvent.objects.filter(action="instance.stopped").count() == 1


def test_a_log_is_read_from_its_end_and_then_on(owner: Api, process: str, coded: FakeRunner) -> None:
    say(coded, *(f"line {number}" for number in range(5)), f"the token is {SECRET}")

    def read(query: str = "") -> Any:
        return owner.get(f"servers/echo/logs{query}").json()

    page = read("?limit=2")
    assert [line["text"] for line in page["data"]] == ["line 4", "the token is ***"]
    assert {(line["instance"], line["source"]) for line in page["data"]} == {(process, "runner")}
    assert page["next"] == page["data"][-1]["number"]
    assert read(f"?after={page['next']}") == {"data": [], "next": page["next"]}
    say(coded, "one", "two", "three")
    following = read(f"?after={page['next']}&limit=2")
    assert [line["text"] for line in following["data"]] == ["one", "two"]
    assert [line["text"] for line in read(f"?after={following['next']}")["data"]] == ["three"]
    whole = read()["data"]
    assert len(whole) == 10
    assert [line["number"] for line in whole] == sorted({line["number"] for line in whole})
    assert SECRET not in str(whole)


@pytest.mark.parametrize("query", ["after=x", "after=-1", "limit=many", "after=" + "9" * 30])
def test_what_is_no_number_is_refused_by_its_name(owner: Api, process: str, query: str) -> None:
    answer = owner.get(f"servers/echo/logs?{query}")
    assert answer.status_code == 422
    assert query.split("=")[0] in answer.json()["error"]["data"]["fields"]


def test_anothers_processes_are_not_to_be_seen_or_ended(
    world: World, process: str, api: Callable[..., Api]
) -> None:
    with tenant_scope(world.globex.id):
        services.create_server(world.globex, slug="echo", title="Echo", actor=world.actor)
    eve = api(world.globex, user=world.eve)
    assert eve.get("servers/echo/processes").json() == {"data": []}
    assert eve.get("servers/echo/logs").json() == {"data": [], "next": 0}
    assert eve.delete(f"servers/echo/processes/{process}").status_code == 404


def test_without_a_runner_both_say_so(owner: Api, process: str, coded: FakeRunner, settings: Any) -> None:
    settings.RUNNER_DIR = coded.folder / "nowhere"
    for part in ("processes", "logs"):
        answer = owner.get(f"servers/echo/{part}")
        assert answer.status_code == 503
        assert answer.json()["error"]["message"].startswith("The runner cannot be reached")
        assert str(coded.folder) not in answer.content.decode()
