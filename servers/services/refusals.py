"""What an organisation should know of calls that were refused: its own keys that no longer work, or ask too much."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction

from mooring.audit.record import Actor, Target, record
from mooring.scope import tenant_scope


@dataclass(frozen=True, slots=True)
class Refused:
    """`count` calls of one actor that were refused for one reason; `first` and `last` are ids of requests.

    `server` is the address of the last, as it was asked for: `<tenant>/<server>`, whether there is one or not.
    """

    actor: Actor
    server: str
    reason: str
    count: int
    first: str
    last: str


def record_refusals(tenant: uuid.UUID, refusals: Iterable[Refused]) -> None:
    """One audit event each. There is no change to go with them."""
    with tenant_scope(tenant), transaction.atomic():
        for refused in refusals:
            record(
                "calls.refused",
                tenant=tenant,
                actor=refused.actor,
                target=Target("server", "", refused.server),
                after={
                    "reason": refused.reason,
                    "count": refused.count,
                    "first_request": refused.first,
                    "last_request": refused.last,
                },
            )
