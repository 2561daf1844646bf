"""Secrets: sealed, named, never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mooring.errors import InvalidInput, NotFound
from tests.servers.services.conftest import last_event

if TYPE_CHECKING:
    from servers.models import Server
    from tests.conftest import World


def test_a_secret_is_sealed_and_never_recorded(acme: World, server: Server) -> None:
    from mooring.audit.models import AuditEvent
    from servers.models import Secret
    from servers.services import secrets_of, set_secret

    set_secret(server, name="token", value="hunter2-hunter2-hunter2\n", actor=acme.actor)
    row = Secret.objects.get(server=server)
    assert b"hunter2" not in bytes(row.ciphertext)
    assert row.last_four == "ter2"
    assert secrets_of(server) == {"token": "hunter2-hunter2-hunter2"}
    set_secret(server, name="token", value="short", actor=acme.actor)
    assert Secret.objects.get(server=server).last_four == ""
    assert secrets_of(server) == {"token": "short"}
    events = AuditEvent.objects.filter(tenant=acme.acme).values_list("before", "after", "target_name")
    assert "hunter2" not in str(list(events))
    assert last_event(acme).after == {"name": "token", "value": "***"}


def test_a_ciphertext_of_another_row_does_not_open(acme: World, server: Server) -> None:
    from mooring.errors import ServerError
    from servers.models import Secret
    from servers.services import secrets_of, set_secret

    set_secret(server, name="one", value="first", actor=acme.actor)
    set_secret(server, name="two", value="second", actor=acme.actor)
    Secret.objects.filter(name="two", server=server).update(
        ciphertext=Secret.objects.get(name="one", server=server).ciphertext
    )
    with pytest.raises(ServerError, match="Set it again"):
        secrets_of(server)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "s3cret"),
        ("a b", "s3cret"),
        ("a" * 65, "s3cret"),
        ("ok", ""),
        ("ok", " \n"),
        ("ok", "s3cret\x00"),
    ],
)
def test_a_secret_without_a_name_or_value_is_refused(
    acme: World, server: Server, name: str, value: str
) -> None:
    from servers.services import set_secret

    with pytest.raises(InvalidInput):
        set_secret(server, name=name, value=value, actor=acme.actor)


@pytest.mark.parametrize("value", ["abc", " abc ", "x"])
def test_a_secret_too_short_to_be_hidden_in_answers_is_refused(
    acme: World, server: Server, value: str
) -> None:
    from servers.models import Secret
    from servers.services import set_secret

    with pytest.raises(InvalidInput, match="at least 4 characters") as refused:
        set_secret(server, name="pin", value=value, actor=acme.actor)
    assert refused.value.data["fields"] == {"value": ["Use at least 4 characters."]}
    assert not Secret.objects.filter(server=server).exists()


def test_the_shortest_secret_is_hidden_in_answers(acme: World, server: Server) -> None:
    from servers.runtimes.http.masking import HIDDEN, Mask
    from servers.services import secrets_of, set_secret

    set_secret(server, name="pin", value="abcd", actor=acme.actor)
    assert Mask(secrets_of(server).values()).text("the pin is abcd") == f"the pin is {HIDDEN}"


def test_a_removed_secret_is_missing_again(acme: World, filled: Server) -> None:
    from servers.services import delete_secret, missing_secrets, set_secret

    set_secret(filled, name="token", value="s3cret", actor=acme.actor)
    delete_secret(filled, name="token", actor=acme.actor)
    assert missing_secrets(filled) == ["token"]
    with pytest.raises(NotFound):
        delete_secret(filled, name="token", actor=acme.actor)
