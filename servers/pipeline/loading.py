"""What the directory reads from the database. Everything here runs in a loader thread, never on the event loop."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import structlog
from django.conf import settings
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    InterfaceError,
    close_old_connections,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from mooring.accounts.models import User
from mooring.errors import Unavailable
from mooring.scope import system_scope, tenant_scope
from servers import services
from servers.models import Channel, Override, Server, SessionState, Version
from servers.pipeline.material import DRAFT, LIVE, Material, Member
from servers.pipeline.overriding import Switch
from servers.pipeline.principals import Principal
from tenants import changes
from tenants.access import key_permissions
from tenants.models import ApiKey, Membership, Tenant
from tenants.quotas import Rate

log = structlog.get_logger(__name__)

T = TypeVar("T")
# Changes that are read at a time.
PAGE = 1_000
# What a statement may take in the database, and how long it may wait for a lock.
STATEMENT_SECONDS = 2


class Change(NamedTuple):
    number: int
    kind: str
    tenant: uuid.UUID
    slug: str
    ref: str


class Limits(NamedTuple):
    """Of the tenant's plan; see `tenants.models.Plan`."""

    calls_per_minute: int
    calls_per_minute_per_key: int
    concurrent_calls: int
    request_bytes: int
    answer_bytes: int


@dataclass(frozen=True, slots=True)
class ServerFacts:
    id: uuid.UUID
    tenant: uuid.UUID
    tenant_slug: str
    slug: str
    is_public: bool
    limits: Limits
    rate: Rate


@dataclass(frozen=True, slots=True)
class SessionFacts:
    has_ended: bool = False
    log_level: str = ""


@dataclass(frozen=True, slots=True)
class _Choice:
    manifest: Mapping[str, Any]
    version: str
    channel: str
    values: Mapping[str, str] = field(default_factory=dict)
    ordinal: int = 0


def in_system_scope(work: Callable[[], T]) -> T:
    close_old_connections()
    try:
        with system_scope():
            return work()
    except (DatabaseError, InterfaceError) as error:
        log.warning("database.unavailable", error=type(error).__name__)
        raise Unavailable(
            "The database is away. Try again in a moment.", code="database_unavailable"
        ) from error
    finally:
        close_old_connections()


class Line:
    """The connections of one thread, so that another thread can hang up on them."""

    def __init__(self) -> None:
        self._connections: tuple[BaseDatabaseWrapper, ...] = ()
        # Held while hanging up: a socket's number must not be another's by then.
        self._lock = threading.Lock()

    def ask(self, work: Callable[[], T]) -> T:
        """`in_system_scope`, with a limit on each statement, in the one thread that uses this line."""
        return in_system_scope(lambda: self._ask(work))

    def _ask(self, work: Callable[[], T]) -> T:
        # A tenant's rows are read over the app's connection.
        both = tuple(connections[alias] for alias in {settings.SYSTEM_DATABASE, DEFAULT_DB_ALIAS})
        try:
            with self._held(both), _limited(settings.SYSTEM_DATABASE):
                return work()
        except (DatabaseError, InterfaceError):
            # Django would ask them later whether they are still usable, and could wait for that answer too.
            for connection in both:
                connection.close()
            raise

    @contextlib.contextmanager
    def _held(self, both: tuple[BaseDatabaseWrapper, ...]) -> Iterator[None]:
        with self._lock:
            self._connections = both
        try:
            yield
        finally:
            with self._lock:
                self._connections = ()

    def cut(self) -> None:
        """End the statement that is running, if one is, from any thread; `ask` then raises `Unavailable`.

        This is for a database that is stopped or cut off: it keeps its own limits no more. While there is no
        connection yet, the limit of connecting holds.
        """
        with self._lock:
            for connection in self._connections:
                if connection.connection is not None:
                    _hang_up(connection.vendor, connection.connection)


def _hang_up(vendor: str, raw: Any) -> None:
    if vendor == "sqlite":
        raw.interrupt()
        return
    from psycopg import OperationalError  # SQLite needs no driver of PostgreSQL

    # It may just have been lost by itself.
    with (
        contextlib.suppress(OSError, OperationalError),
        socket.socket(fileno=os.dup(raw.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _limited(alias: str) -> Iterator[None]:
    connection, milliseconds = connections[alias], STATEMENT_SECONDS * 1000
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {milliseconds}")
        yield
        return
    # Of this transaction, not of the session, which a pooler may lend to somebody else afterwards.
    with transaction.atomic(using=alias, savepoint=False), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {milliseconds}")
        yield


def change_head() -> int:
    return changes.head()


def changes_since(number: int) -> list[Change]:
    """At most `PAGE` changes after `number`, in the order they were committed."""
    found = changes.since(number, limit=PAGE)
    slugs = dict(Tenant.objects.filter(id__in={c.tenant_id for c in found}).values_list("id", "slug"))
    return [Change(c.number, c.kind, c.tenant_id, slugs.get(c.tenant_id, ""), c.ref) for c in found]


def server_facts(tenant_slug: str, slug: str) -> ServerFacts | None:
    """None for a server that is missing, deleted, or of a tenant that is not active."""
    server = (
        Server.objects.select_related("tenant__plan")
        .filter(tenant__slug=tenant_slug, slug=slug, deleted_at__isnull=True)
        .first()
    )
    if server is None or not server.tenant.is_active:
        return None
    plan = server.tenant.plan
    limits = Limits(*(getattr(plan, name) for name in Limits._fields))
    rate = Rate(f"tenant:{server.tenant_id.hex}", limits.calls_per_minute)
    return ServerFacts(server.id, server.tenant_id, tenant_slug, slug, server.is_public, limits, rate)


def material(facts: ServerFacts, selector: str) -> Material | None:
    """What a selector stands for: `draft`, a channel (starts with a letter) or a version (with a digit)."""
    server = Server.objects.filter(id=facts.id).first()
    choice = None if server is None else _chosen(server, selector)
    if server is None or choice is None:
        return None
    made = _material(server, choice)
    members = tuple(_member(server, one) for one in made.manifest.get("members", []))
    return replace(made, members=members) if members else made


def _material(server: Server, choice: _Choice) -> Material:
    manifest: dict[str, Any] = dict(choice.manifest)
    defaults = {
        name: str(variable.get("default", "")) for name, variable in manifest.get("variables", {}).items()
    }
    with tenant_scope(server.tenant_id), _limited(DEFAULT_DB_ALIAS):
        secrets = services.secrets_of(server)
        definitions = services.current_definitions(server)
        switches = tuple(_switch(override) for override in services.active_overrides(server))
    return Material(
        tenant=server.tenant_id,
        server=server.id,
        slug=server.slug,
        version=choice.version,
        channel=choice.channel,
        manifest=manifest,
        variables=defaults | dict(choice.values),
        secrets=secrets,
        ordinal=choice.ordinal,
        switches=switches,
        definitions=definitions,
    )


def _member(whole: Server, wanted: Mapping[str, Any]) -> Member:
    """A server of the same tenant, on the channel that is wanted; members of a member are not served."""
    slug, prefix, channel = wanted["server"], wanted.get("prefix", ""), wanted.get("channel", LIVE)
    server = Server.objects.filter(tenant_id=whole.tenant_id, slug=slug, deleted_at__isnull=True).first()
    if server is None or server.id == whole.id:
        return Member(slug, prefix, None, missing="there is no such server.")
    choice = _chosen(server, channel)
    if choice is None:
        return Member(slug, prefix, server.id, missing=f"nothing is published on {channel}.")
    if choice.manifest.get("members"):
        return Member(slug, prefix, server.id, missing="it is made of others itself.")
    down = services.unhealthy_upstreams(server, channel)
    # Where that is, is none of its callers' business.
    missing = "something that it depends on does not answer." if down else ""
    return Member(slug, prefix, server.id, _material(server, choice), missing)


def _switch(override: Override) -> Switch:
    expires = override.expires_at.timestamp() if override.expires_at else 0.0
    return Switch(override.kind, override.tool, override.settings, expires)


def _chosen(server: Server, selector: str) -> _Choice | None:
    channels = Channel.objects.filter(server=server)
    live_values = channels.filter(name=LIVE).values_list("variables", flat=True).first() or {}
    if selector == DRAFT:
        return _Choice(services.draft_manifest(server), "draft", DRAFT, live_values)
    if selector[:1].isdigit():
        version = Version.objects.filter(server=server, number=selector, retired_at__isnull=True).first()
        return version and _Choice(version.manifest, version.number, selector, live_values, version.ordinal)
    channel = channels.select_related("version").filter(name=selector or LIVE).first()
    if channel is None:
        return None
    version = channel.version
    return _Choice(version.manifest, version.number, channel.name, channel.variables, version.ordinal)


def principal_of_key(digest: str) -> Principal | None:
    """None for a key that never was.

    Barred, and without any permission, unless the key lives, its user is active and still a member, and its
    tenant is active.
    """
    key = ApiKey.objects.select_related("tenant", "user").filter(digest=digest).first()
    if key is None:
        return None
    membership = Membership.objects.filter(tenant=key.tenant, user=key.user).first()
    is_good = key.revoked_at is None and key.tenant.is_active and key.user.is_active
    permissions = key_permissions(key, membership.role) if is_good and membership else None
    return Principal(
        kind="key",
        id=str(key.id),
        name=key.name,
        key=f"key:{key.id.hex}",
        tenant=key.tenant_id,
        user=str(key.user_id),
        permissions=permissions or frozenset(),
        servers=frozenset(key.servers) if key.servers else None,
        expires=key.expires_at.timestamp() if key.expires_at else 0.0,
        is_barred=permissions is None,
    )


def principal_of_member(user_id: int, tenant: uuid.UUID) -> Principal | None:
    user = User.objects.filter(id=user_id, is_active=True).first()
    membership = Membership.objects.filter(tenant_id=tenant, user_id=user_id).first()
    if user is None or membership is None or not Tenant.objects.get(id=tenant).is_active:
        return None
    return Principal(
        kind="user",
        id=str(user.pk),
        name=user.email,
        key=f"user:{user.pk}",
        tenant=tenant,
        user=str(user.pk),
        permissions=membership.permissions,
    )


def session_facts(nonce: str) -> SessionFacts:
    """Nothing stored is a fact too: it is kept until a change says otherwise."""
    state = SessionState.objects.filter(nonce=nonce).first()
    return SessionFacts(state.has_ended, state.log_level) if state else SessionFacts()
