"""Values that request templates name: written by people, read only by the data plane."""

from __future__ import annotations

import re

from django.db import transaction

from mooring.audit.record import Actor
from mooring.errors import InvalidInput, NotFound
from mooring.logs import MASK
from servers.manifests import SECRET_NAME, is_storable
from servers.models import Secret, Server
from servers.runtimes.http.masking import SHORTEST
from servers.services.recording import locked, note
from tenants.secrets import seal, unseal

MAX_CHARACTERS = 10_000
# The end of a short value would give away too much of it.
_SHOWS_ITS_END = 16
_NAME = re.compile(SECRET_NAME)


def set_secret(server: Server, *, name: str, value: str, actor: Actor) -> None:
    """Seal a value under `name`, over an earlier one. Line ends around it, left by copying, are dropped.

    The draft need not name the secret yet. Raises `InvalidInput` for a bad name and a value that is too short or huge.
    """
    value = value.strip("\r\n")
    _check(name, value)
    with transaction.atomic():
        locked(server)
        was_set = Secret.objects.filter(server=server, name=name).exists()
        Secret.objects.update_or_create(
            tenant_id=server.tenant_id,
            server=server,
            name=name,
            defaults={
                "ciphertext": seal(value, tenant=server.tenant_id, row=_row(server, name)),
                "last_four": value[-4:] if len(value) >= _SHOWS_ITS_END else "",
            },
        )
        note(
            server,
            "secret.changed" if was_set else "secret.set",
            actor=actor,
            before={"name": name, "value": MASK} if was_set else None,
            after={"name": name, "value": MASK},
        )


def _check(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:80]!r} cannot name a secret. Start with a letter; use letters, digits, dots, hyphens and "
            "underscores, at most 64.",
            fields={"name": ["Use letters, digits, dots, hyphens and underscores."]},
        )
    if not value.strip():
        raise InvalidInput("Give the secret a value.", fields={"value": ["Give the secret a value."]})
    if len(value.strip()) < SHORTEST:
        raise InvalidInput(
            f"A secret has at least {SHORTEST} characters: a shorter one cannot be hidden in the answers of tools.",
            fields={"value": [f"Use at least {SHORTEST} characters."]},
        )
    if len(value) > MAX_CHARACTERS or not is_storable(value):
        raise InvalidInput(
            f"A secret is text of at most {MAX_CHARACTERS} characters.",
            fields={"value": [f"Use at most {MAX_CHARACTERS} characters."]},
        )


def delete_secret(server: Server, *, name: str, actor: Actor) -> None:
    """Tools that name the secret answer with an error that says so. Raises `NotFound`."""
    with transaction.atomic():
        locked(server)
        known = is_storable(name) and Secret.objects.filter(server=server, name=name).delete()[0]
        if not known:
            raise NotFound("There is no secret by that name.")
        note(server, "secret.deleted", actor=actor, before={"name": name, "value": MASK})


def secrets_of(server: Server) -> dict[str, str]:
    """Name → value, unsealed, for the data plane alone.

    Raises `ServerError` when one was sealed under a key that is gone.
    """
    return {
        secret.name: unseal(secret.ciphertext, tenant=server.tenant_id, row=_row(server, secret.name))
        for secret in Secret.objects.filter(server=server)
    }


def missing_secrets(server: Server) -> list[str]:
    """Secrets the draft needs which have no value yet, in alphabetical order."""
    present = Secret.objects.filter(server=server).values_list("name", flat=True)
    return sorted(set(server.secrets_needed) - set(present))


def _row(server: Server, name: str) -> str:
    return f"secret:{server.id}:{name}"
