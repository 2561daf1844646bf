"""Refusals are counted on the way and written down by a thread: bounded, and to those whom they concern."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from servers.pipeline.call import Call
from servers.pipeline.principals import Principal, anonymous
from servers.pipeline.turned_away import MAX_KNOWN, MAX_STRANGERS, OTHERS, Clerk, Register
from tests.conftest import World


def refused(address: str, code: str = "unauthenticated") -> Call:
    call = Call("acme", "desk", "", {}, address)
    call.code = code
    return call


def written(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    events = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    return [event for event in events if event["event"] == "gateway.refused"]


def test_refusals_are_counted_by_address_and_reason() -> None:
    register = Register()
    calls = [refused("192.0.2.1"), refused("192.0.2.2"), refused("192.0.2.1"), refused("192.0.2.1", "x")]
    for call in calls:
        register.note(call)
    taken = register.take()
    first = taken.strangers["192.0.2.1", "unauthenticated"]
    assert (first.count, first.first, first.last) == (2, calls[0].request_id, calls[2].request_id)
    assert taken.strangers["192.0.2.2", "unauthenticated"].count == 1
    assert taken.strangers["192.0.2.1", "x"].count == 1
    assert register.take().strangers == {}


def test_addresses_beyond_the_bound_are_counted_together() -> None:
    register = Register()
    for number in range(MAX_STRANGERS + 250):
        register.note(refused(f"2001:db8::{number:x}"))
    register.note(refused("2001:db8::0"))
    strangers = register.take().strangers
    assert len(strangers) == MAX_STRANGERS + 1
    assert strangers[OTHERS, "unauthenticated"].count == 250
    assert strangers["2001:db8::0", "unauthenticated"].count == 2


def test_principals_beyond_the_bound_are_in_the_log_alone(world: World) -> None:
    register = Register()
    for number in range(MAX_KNOWN + 10):
        call = refused("192.0.2.1", "rate_limited")
        call.principal = Principal("key", str(number), "ci", f"key:{number}", tenant=world.acme.id)
        register.note(call)
    taken = register.take()
    assert len(taken.known) == MAX_KNOWN
    assert taken.strangers["192.0.2.1", "rate_limited"].count == MAX_KNOWN + 10


def test_what_is_only_wrong_with_a_request_is_no_matter_of_the_audit_log(world: World) -> None:
    register = Register()
    call = refused("192.0.2.1", "parse_error")
    call.principal = Principal("key", "1", "ci", "key:1", tenant=world.acme.id)
    register.note(call)
    stranger = refused("192.0.2.1", "not_found")
    stranger.principal = anonymous("192.0.2.1")
    register.note(stranger)
    assert register.take().known == {}


def test_a_clerk_that_stops_writes_down_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    register = Register()
    clerk = Clerk(register)
    with caplog.at_level(logging.INFO, logger="servers.pipeline.turned_away"):
        clerk.start()
        for _ in range(3):
            register.note(refused("192.0.2.7", "bad_origin"))
        clerk.stop(timeout=30)
    (event,) = written(caplog)
    assert (event["address"], event["reason"], event["count"]) == ("192.0.2.7", "bad_origin", 3)
    assert len(event["first"]) == len(event["last"]) == 24
    assert event["first"] != event["last"]
