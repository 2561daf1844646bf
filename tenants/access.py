"""The only way interface code reaches a tenant: what one principal may do in it.

Foreign and missing tenants answer alike (`NotFound`); a member without the permission gets `Forbidden`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mooring.accounts.models import User
from mooring.audit.record import Actor
from mooring.errors import Forbidden, NotFound
from mooring.scope import tenant_scope, user_scope
from tenants.models import ApiKey, Membership, Tenant
from tenants.permissions import PERMISSIONS, ROLES


@dataclass(frozen=True, slots=True)
class Access:
    """One principal's standing in one tenant. `servers` is None when it is not limited to some."""

    tenant: Tenant
    actor: Actor
    permissions: frozenset[str]
    role: str
    servers: frozenset[str] | None = None

    def may(self, permission: str) -> bool:
        return permission in self.permissions

    def require(self, permission: str) -> None:
        if permission not in self.permissions:
            raise Forbidden(
                f"You may not {PERMISSIONS[permission]} in {self.tenant.name}. Ask an owner for a role that may.",
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


def get_key(access: Access, key_id: uuid.UUID | str) -> ApiKey:
    access.require("keys:write")
    key = ApiKey.objects.filter(tenant=access.tenant, id=key_id).first()
    if key is None:
        raise NotFound("There is no such key.")
    return key
