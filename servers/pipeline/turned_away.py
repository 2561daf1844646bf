"""Who was turned away before a call was admitted: counted on the way, written down once a minute.

Strangers must not fill the log at the speed of a socket, nor the memory with addresses they make up.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from django.db import connections

from mooring.audit.record import Actor
from mooring.errors import Unavailable
from servers.pipeline.call import Call
from servers.pipeline.loading import in_system_scope
from servers.services.refusals import Refused, record_refusals

WRITE_SECONDS = 60.0
# Addresses and reasons that are told apart in a minute; whoever comes later is counted together.
MAX_STRANGERS = 1_000
OTHERS = "others"
# Principals and reasons that are told apart in a minute. Each becomes an audit event, which is kept for ever.
MAX_KNOWN = 500
# About who may and how much. Anything else that is wrong with a request is its sender's own matter.
_AUDITED = frozenset({"invalid_credential", "not_found", "rate_limited", "too_many_running"})

log = structlog.get_logger(__name__)
K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class Tally:
    """`first` and `last` are ids of requests."""

    first: str
    last: str = ""
    count: int = 0


@dataclass(slots=True)
class KnownTally(Tally):
    """The actor and the address asked for are those of the last request."""

    actor: Actor = field(default_factory=lambda: Actor("", "", ""))
    server: str = ""


@dataclass(slots=True)
class Minute:
    """Refusals by address and reason; and by tenant, principal and reason, where these are known."""

    strangers: dict[tuple[str, str], Tally] = field(default_factory=dict)
    known: dict[tuple[uuid.UUID, str, str], KnownTally] = field(default_factory=dict)


class Register:
    """Counts refusals; `note` is called on the event loop and `take` by the thread that writes them down."""

    def __init__(self) -> None:
        self._minute = Minute()
        self._lock = threading.Lock()

    def note(self, call: Call) -> None:
        with self._lock:
            self._note_stranger(call)
            if call.code in _AUDITED:
                self._note_known(call)

    def take(self) -> Minute:
        """What was counted since last time."""
        with self._lock:
            taken, self._minute = self._minute, Minute()
        return taken

    def _note_stranger(self, call: Call) -> None:
        tallies = self._minute.strangers
        key = (call.address, call.code)
        if key not in tallies and len(tallies) >= MAX_STRANGERS:
            key = (OTHERS, call.code)
        tally = tallies.get(key)
        if tally is None:
            tally = tallies[key] = Tally(call.request_id)
        tally.count += 1
        tally.last = call.request_id

    def _note_known(self, call: Call) -> None:
        who = call.principal
        if who is None:
            return
        # A stranger at a public server is its organisation's to know of; a principal is its own organisation's.
        tenant = who.tenant or (call.endpoint.facts.tenant if call.endpoint else None)
        tallies = self._minute.known
        if tenant is None:
            return
        key = (tenant, who.key, call.code)
        if key not in tallies and len(tallies) >= MAX_KNOWN:
            return
        tally = tallies.get(key)
        if tally is None:
            tally = tallies[key] = KnownTally(call.request_id)
        tally.count += 1
        tally.last = call.request_id
        tally.actor = Actor(who.kind, who.id, who.name, call.address)
        tally.server = f"{call.tenant_slug}/{call.server_slug}"


register = Register()


class Clerk:
    """Writes down what a register counted, each minute: a thread of its own, so that no call waits for it."""

    def __init__(self, register: Register, *, every: float = WRITE_SECONDS) -> None:
        self._register = register
        self._every = every
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="refusals", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Write down what is left and end. What the database does not take in time is in the log alone."""
        self._stopping.set()
        self._thread.join(timeout)

    def _work(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stopping.wait(self._every)
            try:
                write_down(self._register.take())
            except Exception:  # the thread must outlive every failure
                log.exception("refusals.not_written")
        connections.close_all()


def write_down(minute: Minute) -> None:
    """One event in the log for each address and reason, and one in the audit log for each known principal."""
    for (address, reason), tally in minute.strangers.items():
        log.info(
            "gateway.refused",
            address=address,
            reason=reason,
            count=tally.count,
            first=tally.first,
            last=tally.last,
        )
    for tenant in {tenant for tenant, _, _ in minute.known}:
        _audit(tenant, [_refused(key[2], tally) for key, tally in minute.known.items() if key[0] == tenant])


def _refused(reason: str, tally: KnownTally) -> Refused:
    return Refused(tally.actor, tally.server, reason, tally.count, tally.first, tally.last)


def _audit(tenant: uuid.UUID, refusals: Iterable[Refused]) -> None:
    try:
        in_system_scope(lambda: record_refusals(tenant, refusals))
    except Unavailable:
        log.warning("refusals.not_audited", tenant=str(tenant))
