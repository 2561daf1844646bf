"""This machine's installation, through the same services as the dashboard. Import it after `start_django()`."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Any
from uuid import UUID

import structlog
from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connections, transaction

from mooring import jobs
from mooring.accounts.models import User
from mooring.audit.models import AuditEvent
from mooring.audit.record import Actor, first_broken_link
from mooring.errors import InvalidInput, NotFound
from mooring.scope import tenant_scope
from servers import services, tasks
from servers.access import (
    audit_events,
    calls,
    get_build,
    get_override,
    get_server,
    get_upstream,
    get_version,
    list_servers,
)
from servers.importers.remote import look
from servers.models import Build, CallRecord, Channel, Server, Version
from servers.services.built import build_detail, build_row
from servers.services.drift import record_look
from servers.services.kinds import TOOL
from servers.services.offers import change_row, upstream_row
from servers.services.overrides import override_row
from servers.services.running import (
    instances_of,
    lines_of,
    log_page,
    process_row,
    require_runner,
    stop_instance,
)
from servers.services.telling import tell_of_drifts
from servers.services.upstreams import endpoint_to_look_at
from tenants.access import Access, get_key, list_keys, operator_access
from tenants.models import ApiKey, Membership, Tenant
from tenants.services import KEY_LIFETIME, create_key, create_tenant, revoke_key

Row = dict[str, Any]
_END_SECONDS = 5.0
_log = structlog.get_logger(__name__)
assert tasks  # imported, so that this process knows how builds are done


@contextmanager
def opened(tenant: str) -> Iterator[Local]:
    with operator_access(tenant, operator()) as access:
        yield Local(access)


def verified(slug: str) -> Iterator[Row]:
    """`{"tenant", "entries", "first_broken"}` of one organisation, or of all for "". Raises `NotFound`.

    `first_broken` is the number of the first entry that does not follow from the one before it, or None.
    """
    tenants = Tenant.objects.order_by("slug")
    if slug:
        tenants = tenants.filter(slug=slug)
        if not tenants:
            raise NotFound(f"There is no organisation {slug[:63]!r} on this installation.")
    for tenant in tenants:
        with tenant_scope(tenant.id):
            entries, broken = AuditEvent.objects.count(), first_broken_link(tenant.id)
        yield {"tenant": tenant.slug, "entries": entries, "first_broken": broken}


def operator() -> Actor:
    """Whoever is signed in to this machine."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        name = f"user {os.getuid()}"
    return Actor("cli", str(os.getuid()), f"{name} on {socket.gethostname()}")


@contextmanager
def building(tenant: str, pk: str) -> Iterator[None]:
    """Do a build's job in a thread of this process, again when it fails, until it is over or somebody else does it."""
    with opened(tenant):
        job = Build.objects.get(id=pk).job_id
    is_over = Event()
    thread = Thread(target=_do, args=(job, is_over), name="build", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(_END_SECONDS)


def _do(job: UUID, is_over: Event) -> None:
    try:
        while not jobs.run(job) and not is_over.wait(1):
            pass
    finally:
        connections.close_all()


class Local:
    """See `mooring.cli.backend.Backend`."""

    def __init__(self, access: Access) -> None:
        self.access, self.tenant, self.origin = access, access.tenant.slug, settings.ORIGIN

    # ---- servers -----------------------------------------------------------------------------------------
    def servers(self) -> list[Row]:
        return [self._server_row(server) for server in list_servers(self.access)]

    def server(self, slug: str) -> Row | None:
        try:
            return self._server_row(get_server(self.access, slug))
        except NotFound:
            return None

    def create_server(self, slug: str, *, title: str, is_public: bool) -> Row:
        server = services.create_server(
            self.access.tenant, slug=slug, title=title, is_public=is_public, actor=self.access.actor
        )
        return self._server_row(server)

    def make_public(self, slug: str) -> None:
        services.update_server(self._server(slug), actor=self.access.actor, is_public=True)

    def tools(self, slug: str) -> list[Row]:
        return [TOOL.definition_of(tool) for tool in self._server(slug).tools.all()]

    def draft(self, slug: str) -> Row:
        return services.draft_manifest(self._server(slug))

    def replace_draft(self, slug: str, manifest: Row) -> None:
        services.replace_draft(self._server(slug), manifest, actor=self.access.actor)

    def set_secret(self, slug: str, name: str, value: str) -> None:
        services.set_secret(self._server(slug), name=name, value=value, actor=self.access.actor)

    def missing_secrets(self, slug: str) -> list[str]:
        return services.missing_secrets(self._server(slug))

    def variables(self, slug: str) -> dict[str, str]:
        live = Channel.objects.filter(server=self._server(slug), name="live").first()
        return dict(live.variables) if live else {}

    def set_variables(self, slug: str, variables: Mapping[str, str]) -> None:
        services.set_variables(
            self._server(slug), channel="live", variables=variables, actor=self.access.actor
        )

    # ---- versions ----------------------------------------------------------------------------------------
    def publish(self, slug: str, *, variables: Mapping[str, str], notes: str) -> Row:
        server = self._server(slug)
        version = services.publish(server, actor=self.access.actor, notes=notes, variables=variables)
        return _version_row(version, _channels(server))

    def versions(self, slug: str) -> list[Row]:
        server = self._server(slug)
        channels = _channels(server)
        return [_version_row(version, channels) for version in server.versions.defer("manifest")]

    def rollback(self, slug: str, number: str) -> Row:
        server = self._server(slug)
        version = get_version(self.access, server, number)
        services.rollback(server, version, actor=self.access.actor)
        return _version_row(version, _channels(server))

    # ---- upstreams and switches --------------------------------------------------------------------------
    def upstreams(self, slug: str) -> list[Row]:
        return [_plain(upstream_row(upstream)) for upstream in services.upstreams_of(self._server(slug))]

    def save_upstream(self, slug: str, name: str, definition: Row) -> None:
        services.save_upstream(self._server(slug), actor=self.access.actor, name=name, definition=definition)

    def look(self, slug: str, name: str) -> Row:
        """Done here and now: a worker would not see what this transaction has not committed yet."""
        server = self._server(slug)
        state = get_upstream(self.access, server, name) or services.start_look(server, name=name)
        seen = look(str(server.tenant_id), endpoint_to_look_at(state))
        tell_of_drifts(server, record_look(state, seen, actor=self.access.actor))
        return next(row for row in self.upstreams(slug) if row["name"] == name)

    def take_all(self, slug: str, name: str) -> list[str]:
        server = self._server(slug)
        listed = set(services.offered(server, name).values_list("section", "name"))
        return services.take_parts(server, actor=self.access.actor, upstream=name, chosen=listed)

    def start_build(self, slug: str, name: str, data: bytes, *, upstream: str, settings: Row) -> Row:
        require_runner()
        build = services.start_build(
            self._server(slug),
            actor=self.access.actor,
            name=name,
            data=data,
            upstream=upstream,
            settings=settings,
        )
        return _plain(build_row(build))

    def build(self, slug: str, pk: str, log_from: int = 0) -> Row:
        return _plain(build_detail(get_build(self.access, self._server(slug), pk), log_from))

    def accept_build(self, slug: str, pk: str) -> list[str]:
        build = get_build(self.access, self._server(slug), pk)
        return services.accept_build(build, actor=self.access.actor)

    def processes(self, slug: str) -> list[Row]:
        return [process_row(info) for info in instances_of(self._server(slug))]

    def stop_process(self, slug: str, instance: str) -> None:
        stop_instance(self._server(slug), actor=self.access.actor, instance=instance)

    def logs(self, slug: str, after: int, limit: int) -> Row:
        page = log_page(lines_of(self._server(slug), after=after, most=limit), after)
        return page | {"data": [_plain(row) for row in page["data"]]}

    def drifts(self, slug: str) -> list[Row]:
        return [change_row(change) for change in services.changes_of(self._server(slug))]

    def accept(self, slug: str, drift: Row) -> str | None:
        named = {part: str(drift[part]) for part in ("upstream", "section", "name", "digest")}
        version = services.accept_drift(self._server(slug), actor=self.access.actor, **named)
        return version.number if version else None

    def overrides(self, slug: str) -> list[Row]:
        return [_plain(override_row(row)) for row in services.active_overrides(self._server(slug))]

    def set_override(self, slug: str, override: Row) -> Row:
        ends = override.get("expires_at")
        given = override | {"expires_at": datetime.fromisoformat(ends) if ends else None}
        return _plain(
            override_row(services.set_override(self._server(slug), actor=self.access.actor, **given))
        )

    def clear_override(self, slug: str, pk: str) -> None:
        services.clear_override(get_override(self.access, self._server(slug), pk), actor=self.access.actor)

    # ---- keys and records --------------------------------------------------------------------------------
    def keys(self) -> list[Row]:
        slugs = {str(pk): slug for pk, slug in Server.objects.values_list("id", "slug")}
        return [_key_row(key, slugs) for key in list_keys(self.access).order_by("-created_at", "-id")]

    def create_key(
        self, *, name: str, scopes: Sequence[str], servers: Sequence[str], days: int | None
    ) -> Row:
        found = [get_server(self.access, slug) for slug in servers]
        issued = create_key(
            self.access.tenant,
            name=name,
            user=_first_owner(self.access.tenant),
            actor=self.access.actor,
            scopes=scopes,
            servers=[str(server.id) for server in found],
            lifetime=KEY_LIFETIME if days is None else timedelta(days=days),
        )
        slugs = {str(server.id): server.slug for server in found}
        return _key_row(issued.row, slugs) | {"secret": issued.secret}

    def revoke_key(self, pk: str) -> None:
        revoke_key(get_key(self.access, pk), actor=self.access.actor)

    def calls(self, *, server: str | None, limit: int) -> list[Row]:
        records = calls(self.access, self._server(server) if server else None)
        return [_call_row(record) for record in records[:limit]]

    def audit(self, *, limit: int) -> list[Row]:
        return [_event_row(event) for event in audit_events(self.access)[:limit]]

    def _server(self, slug: str) -> Server:
        return get_server(self.access, slug)

    def _server_row(self, server: Server) -> Row:
        live = Channel.objects.filter(server=server, name="live").values_list("version__number", flat=True)
        return {
            "slug": server.slug,
            "title": server.title,
            "description": server.description,
            "is_public": server.is_public,
            "live": live.first(),
            "endpoint": f"{self.origin}/t/{self.tenant}/{server.slug}/mcp",
            "created_at": server.created_at.isoformat(),
            "changed_at": server.changed_at.isoformat(),
        }


# ---- organisations, which only the machine's own operator makes --------------------------------------------
def make_tenant(slug: str, *, owner: str, password: str, name: str) -> tuple[Tenant, bool]:
    """Make an organisation and, when there is none by that address, its owner, able to sign in at once.

    Returns it and whether the user is new; the password of one who was there stays.
    """
    try:
        validate_email(owner)
    except ValidationError:
        raise InvalidInput(f"{owner[:100]!r} is not an e-mail address.") from None
    with transaction.atomic():
        user, is_new = _user(owner, password)
        tenant = create_tenant(slug, name=name or slug, owner=user, actor=operator())
    return tenant, is_new


def _user(email: str, password: str) -> tuple[User, bool]:
    user = User.objects.filter(email=email.lower()).first()
    is_new = user is None
    user = user or User.objects.create_user(email, password)
    EmailAddress.objects.update_or_create(
        user=user, email=user.email, defaults={"verified": True, "primary": True}
    )
    return user, is_new


def staff() -> list[Row]:
    rows = User.objects.filter(is_staff=True).order_by("email")
    return [_plain({"email": user.email, "name": user.name, "last_login": user.last_login}) for user in rows]


def set_staff(email: str, *, is_staff: bool) -> Row:
    """Staff see and change every organisation. Raises `NotFound` unless the address is a confirmed account's."""
    user = User.objects.filter(email=email.lower()).first()
    if user is None:
        raise NotFound(f"Nobody has an account as {email[:100]!r}. Let them sign up first.")
    if is_staff and not EmailAddress.objects.filter(user=user, email=user.email, verified=True).exists():
        raise NotFound(f"{user.email} has not been confirmed. Let them sign in once first.")
    user.is_staff = user.is_superuser = is_staff
    user.save(update_fields=["is_staff", "is_superuser"])
    # Organisations have audit logs; this concerns all of them, so it is written where the operator reads.
    _log.warning("staff.added" if is_staff else "staff.removed", user=user.email, by=operator().name)
    return {"email": user.email, "is_staff": is_staff}


def _first_owner(tenant: Tenant) -> User:
    owners = Membership.objects.select_related("user").filter(tenant=tenant, role="owner")
    first: Membership | None = owners.order_by("created_at", "id").first()
    if first is None:
        raise NotFound("The organisation has no owner whose key this could be.")
    return first.user


# ---- rows --------------------------------------------------------------------------------------------------
def _plain(row: Row) -> Row:
    """Times as text, as in the API."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def _channels(server: Server) -> dict[str, Any]:
    return dict(server.channels.values_list("name", "version_id"))


def _version_row(version: Version, channels: Mapping[str, Any]) -> Row:
    return {
        "number": version.number,
        "digest": version.digest,
        "notes": version.notes,
        "author": version.author,
        "created_at": version.created_at.isoformat(),
        "retired_at": version.retired_at and version.retired_at.isoformat(),
        "channels": sorted(name for name, served in channels.items() if served == version.id),
    }


def _key_row(key: ApiKey, slugs: Mapping[str, str]) -> Row:
    times = ("created_at", "expires_at", "revoked_at", "last_used_at")
    return {
        "id": str(key.id),
        "name": key.name,
        "prefix": key.prefix,
        "user": key.user.email,
        "scopes": key.scopes,
        "servers": sorted(slugs.get(server, server) for server in key.servers),
        "state": key.state,
    } | {name: value.isoformat() if (value := getattr(key, name)) else None for name in times}


def _call_row(record: CallRecord) -> Row:
    names = (
        "request_id method subject version channel client revision status code duration_us request_bytes "
        "answer_bytes"
    ).split()
    return {
        "id": str(record.id),
        "time": record.time.isoformat(),
        "server": record.server_slug,
        "principal": {
            "kind": record.principal_kind,
            "id": record.principal_id,
            "name": record.principal_name,
        },
    } | {name: getattr(record, name) for name in names}


def _event_row(event: AuditEvent) -> Row:
    return {
        "sequence": event.sequence,
        "time": event.time.isoformat(),
        "action": event.action,
        "actor": {"kind": event.actor_kind, "id": event.actor_id, "name": event.actor_name},
        "target": {"kind": event.target_kind, "id": event.target_id, "name": event.target_name},
        "before": event.before,
        "after": event.after,
        "ip": event.ip,
        "request_id": event.request_id,
        "hash": event.hash,
    }
