"""The only way interface code reaches a tenant: what one principal may do in it.

Foreign and missing tenants answer alike (`NotFound`); a member without the permission gets `Forbidden`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone

from mooring.accounts.models import User
from mooring.audit.record import Actor
from mooring.errors import Forbidden, NotFound, Unauthenticated
from mooring.scope import system_scope, tenant_scope, user_scope
from tenants.keys import digest_of, is_well_formed
from tenants.models import ApiKey, Membership, Tenant
from tenants.permissions import PERMISSIONS, ROLES

# "Last used" is for people deciding what to revoke; a write a request would be too much for that.
_USE_NOTED_EVERY = timedelta(minutes=1)
KEY_NEEDED = "This needs a valid API key. Send it as `Authorization: Bearer moor_…`."


@dataclass(frozen=True, slots=True)
class Access:
    """One principal's standing in one tenant. `servers` (ids) is None when it is not limited to some.

    `key` is the API key it came with, if any.
    """

    tenant: Tenant
    actor: Actor
    permissions: frozenset[str]
    role: str
    servers: frozenset[str] | None = None
    key: ApiKey | None = None

    def may(self, permission: str) -> bool:
        return permission in self.permissions

    def require(self, permission: str) -> None:
        if permission not in self.permissions:
            raise Forbidden(
                f"You may not {PERMISSIONS[permission]} in {self.tenant.name}. "
                "Ask an owner for a role that may.",
                permission=permission,
            )


def actor_of(user: User, ip: str = "") -> Actor:
    return Actor("user", str(user.pk), user.email, ip)


@contextmanager
def member_access(user: User, slug: str, *, ip: str = "") -> Iterator[Access]:
    """Enter the scope of the tenant of which `user` is a member."""
    with user_scope(user.pk):
        membership = (
            Membership.objects.model._default_manager.none()  # typed empty set when the slug is unknown
            if not (tenant := _active(slug))
            else Membership.objects.filter(tenant_id=tenant.id, user=user)
        ).first()
    if tenant is None or membership is None:
        raise NotFound("There is no organisation by that name among yours.")
    with tenant_scope(tenant.id):
        yield Access(tenant, actor_of(user, ip), membership.permissions, membership.role)


@contextmanager
def operator_access(slug: str, actor: Actor) -> Iterator[Access]:
    """Enter a tenant's scope as whoever holds the installation itself; there is nothing they may not do."""
    tenant = _active(slug)
    if tenant is None:
        raise NotFound(f"There is no organisation {slug[:63]!r} on this installation.")
    with tenant_scope(tenant.id):
        yield Access(tenant, actor, frozenset(PERMISSIONS), "owner")


def _active(slug: str) -> Tenant | None:
    return Tenant.objects.select_related("plan").filter(slug=slug, deleted_at__isnull=True).first()


def tenants_of(user: User) -> list[Tenant]:
    """The user's organisations by name."""
    with user_scope(user.pk):
        ids = [membership.tenant_id for membership in Membership.objects.filter(user=user)]
    return list(Tenant.objects.filter(id__in=ids, deleted_at__isnull=True).order_by("name"))


def key_permissions(key: ApiKey, role: str) -> frozenset[str]:
    """A key carries at most what its user still holds."""
    return frozenset(key.scopes) & ROLES[role]


def list_keys(access: Access) -> QuerySet[ApiKey]:
    """All keys of the organisation, revoked and expired ones too."""
    access.require("keys:read")
    keys: QuerySet[ApiKey] = ApiKey.objects.select_related("user").filter(tenant=access.tenant)
    return keys


def list_members(access: Access) -> QuerySet[Membership]:
    access.require("members:read")
    members: QuerySet[Membership] = Membership.objects.filter(tenant=access.tenant).select_related("user")
    return members.order_by("user__email")


def get_key(access: Access, key_id: uuid.UUID | str) -> ApiKey:
    access.require("keys:write")
    key: ApiKey | None = ApiKey.objects.filter(tenant=access.tenant, id=key_id).first()
    if key is None:
        raise NotFound("There is no such key.")
    return key


def key_access(secret: str, ip: str = "") -> Access:
    """What the holder of an API key may do.

    Raises `Unauthenticated` with one and the same sentence for malformed, unknown, expired and revoked keys,
    and for keys whose user or organisation is gone. The scope is left again; enter
    `tenant_scope(access.tenant.id)`.
    """
    found = _key_of_any_tenant(secret)
    if found is not None:
        tenant_id, key_id = found
        # Read again inside the scope: rows remember their connection, and that of the system crosses tenants.
        with tenant_scope(tenant_id):
            access = _access_of(key_id, ip)
            if access is not None:
                _note_use(key_id)
                return access
    raise Unauthenticated(KEY_NEEDED)


def _key_of_any_tenant(secret: str) -> tuple[uuid.UUID, uuid.UUID] | None:
    if not is_well_formed(secret):
        return None
    with system_scope():
        row = ApiKey.objects.filter(digest=digest_of(secret)).first()
    return (row.tenant_id, row.id) if row else None


def _access_of(key_id: uuid.UUID, ip: str) -> Access | None:
    key = ApiKey.objects.select_related("user", "tenant__plan").filter(id=key_id).first()
    if key is None or key.state != "active" or not key.user.is_active or key.tenant.deleted_at is not None:
        return None
    membership = Membership.objects.filter(user_id=key.user_id).first()
    if membership is None:
        return None
    return Access(
        tenant=key.tenant,
        actor=Actor("key", str(key.id), f"{key.user.email} ({key.name})", ip),
        permissions=key_permissions(key, membership.role),
        role=membership.role,
        servers=frozenset(key.servers) or None,
        key=key,
    )


def _note_use(key_id: uuid.UUID) -> None:
    now = timezone.now()
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - _USE_NOTED_EVERY)
    ApiKey.objects.filter(stale, id=key_id).update(last_used_at=now)
