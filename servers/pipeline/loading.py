"""What the directory reads from the database. Everything here runs in a loader thread, never on the event loop."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from mooring.accounts.models import User
from mooring.errors import Unavailable
from mooring.scope import system_scope, tenant_scope
from servers import services
from servers.models import Channel, Server, SessionState, Version
from servers.pipeline.principals import Principal
from servers.pipeline.snapshot import Material
from tenants import changes
from tenants.access import key_permissions
from tenants.models import ApiKey, Membership, Tenant
from tenants.quotas import Rate

log = structlog.get_logger(__name__)

T = TypeVar("T")
LIVE, DRAFT = "live", "draft"


class Change(NamedTuple):
    number: int
    kind: str
    tenant: uuid.UUID
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
    manifest: Mapping[str, object]
    version: str
    channel: str
    overrides: Mapping[str, str] = field(default_factory=dict)


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


def close_connections(meeting: threading.Barrier) -> None:
    """Close this thread's connections once every thread of the pool has come, so that each closes its own."""
    with contextlib.suppress(threading.BrokenBarrierError):
        meeting.wait(timeout=2.0)
    connections.close_all()


def change_head() -> int:
    return changes.head()


def changes_since(number: int) -> list[Change]:
    return [Change(c.number, c.kind, c.tenant_id, c.ref) for c in changes.since(number)]


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
    manifest = dict(choice.manifest)
    defaults = {
        name: str(variable.get("default", ""))
        for name, variable in manifest.get("variables", {}).items()  # type: ignore[attr-defined]  # JSON checked at publish
    }
    with tenant_scope(facts.tenant):
        secrets = services.secrets_of(server)
    return Material(
        tenant=facts.tenant,
        server=facts.id,
        slug=facts.slug,
        version=choice.version,
        channel=choice.channel,
        manifest=manifest,
        variables=defaults | dict(choice.overrides),
        secrets=secrets,
    )


def _chosen(server: Server, selector: str) -> _Choice | None:
    channels = Channel.objects.filter(server=server)
    overrides = channels.filter(name=LIVE).values_list("variables", flat=True).first() or {}
    if selector == DRAFT:
        return _Choice(services.draft_manifest(server), "draft", DRAFT, overrides)
    if selector[:1].isdigit():
        version = Version.objects.filter(server=server, number=selector, retired_at__isnull=True).first()
        return version and _Choice(version.manifest, version.number, selector, overrides)
    channel = channels.select_related("version").filter(name=selector or LIVE).first()
    if channel is None:
        return None
    return _Choice(channel.version.manifest, channel.version.number, channel.name, channel.variables)


def principal_of_key(digest: str) -> Principal | None:
    """None unless the key lives, its user is active and still a member, and its tenant is active."""
    key = (
        ApiKey.objects.select_related("tenant", "user").filter(digest=digest, revoked_at__isnull=True).first()
    )
    if key is None or not key.tenant.is_active or not key.user.is_active:
        return None
    membership = Membership.objects.filter(tenant=key.tenant, user=key.user).first()
    if membership is None:
        return None
    return Principal(
        kind="key",
        id=str(key.id),
        name=key.name,
        key=f"key:{key.id.hex}",
        tenant=key.tenant_id,
        user=str(key.user_id),
        permissions=key_permissions(key, membership.role),
        servers=frozenset(key.servers) if key.servers else None,
        expires=key.expires_at.timestamp() if key.expires_at else 0.0,
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
