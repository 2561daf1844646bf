"""Versions and channels: frozen, numbered, served, rolled back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from mooring.errors import Conflict, InvalidInput, NotFound
from mooring.scope import tenant_scope
from tests.servers.services.conftest import EVERYTHING, last_event

if TYPE_CHECKING:
    from servers.models import Server
    from tests.conftest import World


def live(server: Server) -> str:
    from servers.models import Channel

    return str(Channel.objects.get(server=server, name="live").version.number)


def test_a_version_is_frozen_numbered_and_live(acme: World, filled: Server) -> None:
    from servers import manifests
    from servers.services import publish

    version = publish(filled, actor=acme.actor, notes="First.")
    assert (version.number, version.ordinal, version.author) == ("1.0.0", 1, acme.alice.email)
    assert version.manifest == EVERYTHING
    assert version.digest == manifests.digest(EVERYTHING)
    assert live(filled) == "1.0.0"
    assert last_event(acme).after == {"live": "1.0.0", "digest": version.digest, "notes": "First."}


def test_a_version_stays_as_it_is_while_the_draft_goes_on(acme: World, filled: Server) -> None:
    from servers.models import Tool
    from servers.services import delete_row, publish

    first = publish(filled, actor=acme.actor)
    delete_row(Tool.objects.get(server=filled, name="find"), actor=acme.actor)
    second = publish(filled, actor=acme.actor)
    first.refresh_from_db()
    assert first.manifest == EVERYTHING
    assert (second.number, second.ordinal, live(filled)) == ("2.0.0", 2, "2.0.0")


def test_publishing_nothing_new_is_refused(acme: World, filled: Server) -> None:
    from servers.services import publish

    publish(filled, actor=acme.actor)
    with pytest.raises(Conflict, match=r"Nothing changed since version 1\.0\.0"):
        publish(filled, actor=acme.actor)


def test_a_number_may_be_chosen_once(acme: World, filled: Server) -> None:
    from servers.services import publish, update_server

    assert publish(filled, actor=acme.actor, number="3.1.4").number == "3.1.4"
    update_server(filled, actor=acme.actor, title="Other")
    with pytest.raises(Conflict, match="exists"):
        publish(filled, actor=acme.actor, number="3.1.4")
    with pytest.raises(InvalidInput, match="three numbers"):
        publish(filled, actor=acme.actor, number="v4")
    assert publish(filled, actor=acme.actor).number == "3.1.5"


def test_a_proposed_number_is_never_one_that_exists(acme: World, filled: Server) -> None:
    from servers.services import publish, update_server

    for title, number in (("a", "2.0.0"), ("b", "1.0.0"), ("c", None)):
        update_server(filled, actor=acme.actor, title=title)
        version = publish(filled, actor=acme.actor, number=number)
    assert version.number == "2.0.1"


def test_rolling_back_moves_live_and_back_again(acme: World, filled: Server) -> None:
    from servers.services import publish, rollback, update_server

    first = publish(filled, actor=acme.actor)
    update_server(filled, actor=acme.actor, title="Other")
    second = publish(filled, actor=acme.actor)
    rollback(filled, first, actor=acme.actor)
    assert live(filled) == "1.0.0"
    event = last_event(acme)
    assert (event.action, event.before, event.after) == (
        "channel.moved",
        {"live": "1.0.1"},
        {"live": "1.0.0"},
    )
    rollback(filled, first, actor=acme.actor)
    assert last_event(acme).sequence == event.sequence
    rollback(filled, second, actor=acme.actor)
    assert live(filled) == "1.0.1"


def test_a_version_of_another_server_is_not_found(acme: World, filled: Server) -> None:
    from servers.services import create_server, publish, rollback

    other = create_server(acme.acme, slug="other", title="Other", actor=acme.actor)
    version = publish(other, actor=acme.actor)
    with pytest.raises(NotFound):
        rollback(filled, version, actor=acme.actor)


@pytest.mark.parametrize("channel", ["draft", "1live", "Live", ""])
def test_a_channel_with_a_bad_name_is_refused(acme: World, filled: Server, channel: str) -> None:
    from servers.services import publish

    with pytest.raises(InvalidInput, match="channel"):
        publish(filled, actor=acme.actor, channel=channel)


def test_a_channel_gives_its_own_values_to_declared_variables(acme: World, filled: Server) -> None:
    from servers.models import Channel
    from servers.services import publish, set_variables

    publish(
        filled, actor=acme.actor, channel="staging", variables={"base_url": "https://staging.example.com"}
    )
    channel = Channel.objects.get(server=filled, name="staging")
    assert channel.variables == {"base_url": "https://staging.example.com"}
    set_variables(filled, channel="staging", variables={"base_url": " "}, actor=acme.actor)
    channel.refresh_from_db()
    assert channel.variables == {}
    with pytest.raises(InvalidInput, match="no variable"):
        set_variables(filled, channel="staging", variables={"other": "x"}, actor=acme.actor)
    with pytest.raises(NotFound):
        set_variables(filled, channel="live", variables={}, actor=acme.actor)


def test_of_publishes_that_overlap_each_gets_its_number_and_the_last_is_live(world: World) -> None:
    """Each thread has a connection and a transaction of its own, so on PostgreSQL they truly meet."""
    from django.db import connections, transaction

    from servers.models import Version
    from servers.services import create_server, publish, save_tool

    with tenant_scope(world.acme.id):
        server = create_server(world.acme, slug="busy", title="Busy", actor=world.actor)
    start = threading.Barrier(4)
    failures: list[BaseException] = []

    def one(name: str) -> None:
        try:
            start.wait(10)
            # One transaction on both databases: else another may publish this tool first, and nothing be left.
            with tenant_scope(world.acme.id), transaction.atomic():
                tool = {"name": name, "input_schema": {"type": "object"}, "static": {"kind": "echo"}}
                save_tool(server, actor=world.actor, tool=None, definition=tool)
                publish(server, actor=world.actor, number=f"1.0.{name[-1]}")
        except BaseException as error:  # noqa: BLE001  # reported by the test, not lost in a thread
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=(f"tool{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with tenant_scope(world.acme.id):
        versions = list(Version.objects.filter(server=server).order_by("ordinal"))
        assert [version.ordinal for version in versions] == list(range(1, len(versions) + 1))
        assert live(server) == versions[-1].number
        assert len(versions[-1].manifest["tools"]) == 4
