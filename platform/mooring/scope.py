"""The first wall between tenants: owned rows can be queried only inside a scope.

`tenant_scope(id)` admits one tenant's rows and, on PostgreSQL, tells row-level security the same (the second
wall, see `mooring.walls`). `system_scope()` crosses tenants on a connection of its own role. Outside both,
every query on an owned model raises `ScopeError`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction

from mooring.ids import uuid7

if TYPE_CHECKING:
    from tenants.models import Tenant


class ScopeError(RuntimeError):
    """A query on an owned model outside any scope: a bug, never an answer to a user."""


@dataclass(frozen=True, slots=True)
class Scope:
    tenant: uuid.UUID | None
    user: int | None = None

    @property
    def is_system(self) -> bool:
        return self.tenant is None and self.user is None


_SYSTEM = Scope(None)
_scope: ContextVar[Scope | None] = ContextVar("scope", default=None)


def current() -> Scope | None:
    return _scope.get()


def has_row_security() -> bool:
    return connections["default"].vendor == "postgresql"


@contextmanager
def tenant_scope(tenant: uuid.UUID) -> Iterator[None]:
    """Admit the rows of one tenant. On PostgreSQL this is one transaction, since the setting dies with it."""
    outer = _scope.get()
    with _entered(Scope(tenant, outer.user if outer else None)):
        yield


@contextmanager
def user_scope(user: int) -> Iterator[None]:
    """Admit the memberships of one user, in whichever tenants they are."""
    with _entered(Scope(None, user)):
        yield


@contextmanager
def system_scope() -> Iterator[None]:
    """Admit every tenant's rows, for work that belongs to no tenant: loading, shipping, beat, staff."""
    token = _scope.set(_SYSTEM)
    try:
        yield
    finally:
        _scope.reset(token)


@contextmanager
def _entered(scope: Scope) -> Iterator[None]:
    outer = _scope.get()
    token = _scope.set(scope)
    try:
        if not has_row_security():
            yield
            return
        with transaction.atomic():
            _tell_database(scope)
            yield
            if outer is not None and not outer.is_system:
                _tell_database(outer)
    finally:
        _scope.reset(token)


def _tell_database(scope: Scope) -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT set_config('app.tenant', %s, true), set_config('app.user', %s, true)",
            [str(scope.tenant or ""), str(scope.user or "")],
        )


class ScopeRouter:
    """Sends queries of a system scope over the system role's connection."""

    def db_for_read(self, model: type[models.Model], **hints: object) -> str:
        scope = _scope.get()
        # Named explicitly: without it Django would write a row back over the connection that loaded it.
        return settings.SYSTEM_DATABASE if scope is not None and scope.is_system else DEFAULT_DB_ALIAS

    db_for_write = db_for_read

    def allow_relation(self, one: models.Model, other: models.Model, **hints: object) -> bool:
        return True  # the aliases are three roles on one database

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool:
        return db == settings.OWNER_DATABASE


_M = TypeVar("_M", bound=models.Model, covariant=True)


class ScopedQuerySet(models.QuerySet[_M]):
    def within(self, scope: Scope) -> Self:
        if scope.is_system:
            return self
        if scope.tenant is None:  # a user's scope; the policy in mooring.walls admits the same
            is_membership = self.model._meta.label == "tenants.Membership"
            return self.filter(user_id=scope.user) if is_membership else self.none()
        return self.filter(tenant_id=scope.tenant)


class ScopedManager(models.Manager.from_queryset(ScopedQuerySet)[_M]):  # type: ignore[misc]  # built by a call
    """Manager of owned models: no scope, no query."""

    use_in_migrations = False

    def get_queryset(self) -> Any:
        scope = _scope.get()
        if scope is None:
            raise ScopeError(f"{self.model.__name__} was queried outside a tenant's scope.")
        return super().get_queryset().within(scope)


class OwnedModel(models.Model):
    """A row that belongs to exactly one tenant. `mooring.walls` puts row-level security on every subclass."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant: models.ForeignKey[Tenant, Tenant] = models.ForeignKey(
        "tenants.Tenant", on_delete=models.PROTECT, editable=False, related_name="+"
    )

    objects = ScopedManager()

    class Meta:
        abstract = True
