"""Who: organisations, their members, keys and limits."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from mooring.ids import uuid7
from mooring.scope import OwnedModel
from tenants.permissions import ROLES


class Plan(models.Model):
    """Limits of a tenant. Every number is checked on the data plane without a query."""

    name = models.SlugField(unique=True)
    calls_per_minute = models.PositiveIntegerField(default=6_000)
    calls_per_minute_per_key = models.PositiveIntegerField(default=3_000)
    concurrent_calls = models.PositiveIntegerField(default=100)
    request_bytes = models.PositiveIntegerField(default=4 * 1024 * 1024)
    answer_bytes = models.PositiveIntegerField(default=8 * 1024 * 1024)
    servers = models.PositiveIntegerField(default=200)

    def __str__(self) -> str:
        return self.name


class Tenant(models.Model):
    """An organisation. Rows are never removed, so that a slug is never given out twice."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.CharField(max_length=63, unique=True)
    name = models.CharField(max_length=120)
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)
    suspended_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.slug

    @property
    def is_active(self) -> bool:
        return self.suspended_at is None and self.deleted_at is None


class Membership(OwnedModel):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20, choices=[(role, role) for role in ROLES])
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "user"], name="one_membership_a_tenant_and_user")
        ]

    def __str__(self) -> str:
        return f"{self.user_id} as {self.role}"

    @property
    def permissions(self) -> frozenset[str]:
        return ROLES[self.role]


class ApiKey(OwnedModel):
    """A caller's key: shown once, kept as an HMAC."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=120)
    prefix = models.CharField(max_length=16, help_text="the first characters, to tell keys apart")
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list, help_text="permissions the key carries")
    servers = models.JSONField(default=list, help_text="ids of servers it is limited to; empty for all")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        indexes: ClassVar = [models.Index(fields=["tenant", "-created_at"], name="keys_of_tenant")]

    def __str__(self) -> str:
        return f"{self.prefix}… {self.name}"

    @property
    def state(self) -> str:
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= timezone.now():
            return "expired"
        return "active"


class DataKey(OwnedModel):
    """A tenant's data-encryption key, wrapped by a key-encryption key of the installation."""

    wrapped = models.BinaryField()
    kek_id = models.CharField(max_length=32)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant"], name="one_data_key_a_tenant")]

    def __str__(self) -> str:
        return f"data key under {self.kek_id}"


class ChangeHead(models.Model):
    """One row; its lock puts all changes in commit order, so that a reader who polls it skips none."""

    number = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.number)


class Change(models.Model):
    """Something the data plane must see. `kind` and `ref` say which snapshot or credential to drop."""

    number = models.PositiveBigIntegerField(primary_key=True)
    kind = models.CharField(max_length=20)
    tenant_id = models.UUIDField()
    ref = models.CharField(max_length=130, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.number} {self.kind} {self.ref}"
