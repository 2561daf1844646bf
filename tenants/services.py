"""Writes about tenants, members and keys: check, one transaction with its audit row, effects on commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import DEFAULT_DB_ALIAS, IntegrityError, transaction
from django.utils import timezone

from mooring.accounts.models import User
from mooring.audit.record import Actor, Target, record
from mooring.errors import Conflict, InvalidInput
from mooring.scope import tenant_scope
from tenants.changes import announce
from tenants.keys import SHOWN, digest_of, new_key
from tenants.models import ApiKey, Membership, Plan, Tenant
from tenants.permissions import DEFAULT_KEY_SCOPES, KEY_SCOPES, ROLES
from tenants.slugs import checked_slug

KEY_LIFETIME = timedelta(days=90)
KEYS_A_TENANT = 1_000


def create_tenant(slug: str, *, name: str, owner: User, actor: Actor) -> Tenant:
    """Raises `InvalidInput` for a bad slug and `Conflict` for one that was ever given out."""
    checked_slug(slug, what="organisation")
    if not name.strip():
        raise InvalidInput(
            "Give the organisation a name.", fields={"name": ["Give the organisation a name."]}
        )
    plan, _ = Plan.objects.get_or_create(name="standard")
    try:
        with transaction.atomic():
            tenant = Tenant.objects.create(slug=slug, name=name.strip()[:120], plan=plan)
    except IntegrityError:
        raise Conflict(f"The name {slug!r} is taken. Choose another.", code="slug_taken") from None
    with tenant_scope(tenant.id), transaction.atomic():
        Membership.objects.create(tenant=tenant, user=owner, role="owner")
        record(
            "tenant.created",
            tenant=tenant.id,
            actor=actor,
            target=Target("tenant", str(tenant.id), tenant.slug),
            after={"slug": tenant.slug, "name": tenant.name, "owner": owner.email},
        )
        announce("tenant", tenant=tenant.id)
    return tenant


def rename_tenant(tenant: Tenant, *, name: str, actor: Actor) -> None:
    """Change the display name; the slug stays for ever."""
    if not name.strip():
        raise InvalidInput(
            "Give the organisation a name.", fields={"name": ["Give the organisation a name."]}
        )
    before, tenant.name = tenant.name, name.strip()[:120]
    with transaction.atomic():
        tenant.save(update_fields=["name"])
        target = Target("tenant", str(tenant.id), tenant.slug)
        record(
            "tenant.renamed",
            tenant=tenant.id,
            actor=actor,
            target=target,
            before={"name": before},
            after={"name": tenant.name},
        )


def set_suspended(tenant: Tenant, *, suspended: bool, actor: Actor) -> None:
    """A suspended tenant's endpoints answer as if they were missing."""
    before, tenant.suspended_at = tenant.suspended_at, timezone.now() if suspended else None
    with transaction.atomic():
        tenant.save(update_fields=["suspended_at"])
        record(
            "tenant.suspended" if suspended else "tenant.resumed",
            tenant=tenant.id,
            actor=actor,
            target=Target("tenant", str(tenant.id), tenant.slug),
            before={"suspended_at": before},
            after={"suspended_at": tenant.suspended_at},
        )
        announce("tenant", tenant=tenant.id)


def change_plan(tenant: Tenant, *, plan: Plan, actor: Actor) -> None:
    before, tenant.plan = tenant.plan.name, plan
    with transaction.atomic():
        tenant.save(update_fields=["plan"])
        record(
            "tenant.plan_changed",
            tenant=tenant.id,
            actor=actor,
            target=Target("tenant", str(tenant.id), tenant.slug),
            before={"plan": before},
            after={"plan": plan.name},
        )
        announce("tenant", tenant=tenant.id)


def save_plan(plan: Plan, *, actor: Actor) -> None:
    """Change the limits of every tenant on the plan; each tenant's log says so."""
    limits = {field.name: getattr(plan, field.name) for field in Plan._meta.fields if field.name != "id"}
    with transaction.atomic():
        plan.save(using=DEFAULT_DB_ALIAS)
        for tenant in Tenant.objects.filter(plan=plan, deleted_at__isnull=True).order_by("id"):
            with tenant_scope(tenant.id):
                target = Target("plan", str(plan.pk), plan.name)
                record("plan.changed", tenant=tenant.id, actor=actor, target=target, after=limits)
                announce("tenant", tenant=tenant.id)


def add_member(tenant: Tenant, *, user: User, role: str, actor: Actor) -> Membership:
    if role not in ROLES:
        raise InvalidInput(f"There is no role {role!r}. Choose one of {', '.join(ROLES)}.")
    with transaction.atomic():
        membership: Membership
        membership, created = Membership.objects.get_or_create(
            tenant=tenant, user=user, defaults={"role": role}
        )
        if not created:
            raise Conflict(f"{user.email} is a member already.", code="already_member")
        record(
            "member.added",
            tenant=tenant.id,
            actor=actor,
            target=Target("member", str(user.pk), user.email),
            after={"role": role},
        )
        announce("member", tenant=tenant.id, ref=str(user.pk))
    return membership


class IssuedKey(NamedTuple):
    row: ApiKey
    secret: str


def create_key(
    tenant: Tenant,
    *,
    name: str,
    user: User,
    actor: Actor,
    scopes: Sequence[str] = DEFAULT_KEY_SCOPES,
    servers: Sequence[str] = (),
    lifetime: timedelta | None = KEY_LIFETIME,
) -> IssuedKey:
    """Make a key. The secret is returned here and nowhere else, ever.

    Raises `InvalidInput` for an unknown scope or an empty name.
    """
    _check_key(name, scopes)
    if ApiKey.objects.filter(tenant=tenant, revoked_at__isnull=True).count() >= KEYS_A_TENANT:
        raise Conflict(f"An organisation holds at most {KEYS_A_TENANT} live keys. Revoke some first.")
    secret = new_key()
    expires: datetime | None = timezone.now() + lifetime if lifetime else None
    with transaction.atomic():
        key = ApiKey.objects.create(
            tenant=tenant,
            user=user,
            name=name.strip()[:120],
            prefix=secret[:SHOWN],
            digest=digest_of(secret),
            scopes=sorted(set(scopes)),
            servers=list(servers),
            expires_at=expires,
        )
        record(
            "key.created",
            tenant=tenant.id,
            actor=actor,
            target=Target("key", str(key.id), key.name),
            after={"prefix": key.prefix, "scopes": key.scopes, "servers": key.servers, "expires_at": expires},
        )
        announce("key", tenant=tenant.id, ref=key.digest)
    return IssuedKey(key, secret)


def _check_key(name: str, scopes: Sequence[str]) -> None:
    if not name.strip():
        raise InvalidInput("Give the key a name.", fields={"name": ["Give the key a name."]})
    unknown = sorted(set(scopes) - KEY_SCOPES)
    if unknown or not scopes:
        raise InvalidInput(
            f"A key cannot carry {', '.join(unknown) or 'no scope at all'}. "
            f"Choose from {', '.join(sorted(KEY_SCOPES))}.",
            fields={"scopes": ["Choose from the list."]},
        )


def revoke_key(key: ApiKey, *, actor: Actor) -> None:
    """Revoking twice is fine and recorded once."""
    with transaction.atomic():
        now = timezone.now()
        if ApiKey.objects.filter(id=key.id, revoked_at__isnull=True).update(revoked_at=now) != 1:
            return
        key.revoked_at = now
        record(
            "key.revoked",
            tenant=key.tenant_id,
            actor=actor,
            target=Target("key", str(key.id), key.name),
            before={"revoked_at": None},
            after={"revoked_at": now},
        )
        announce("key", tenant=key.tenant_id, ref=key.digest)
