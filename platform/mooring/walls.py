"""The second wall: what `migrate` sets up in the database itself, after every run, for every owned table.

PostgreSQL: forced row-level security, composite foreign keys `(tenant_id, x_id)`, and privileges of the two
roles the product runs as. Both databases: triggers that keep the audit log append-only. Everything here is
idempotent, so that a new owned model cannot be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from mooring.scope import OwnedModel

APP, SYSTEM = "mooring_app", "mooring_system"
# Tables that may only grow for the app role.
APPEND_ONLY = ("audit_auditevent", "servers_version")
_TENANT = "nullif(current_setting('app.tenant', true), '')::uuid"
_USER = "nullif(current_setting('app.user', true), '')::bigint"


def owned_models() -> list[type[OwnedModel]]:
    return [model for model in apps.get_models() if issubclass(model, OwnedModel)]


def raise_walls(connection: BaseDatabaseWrapper) -> None:
    statements = _postgres() if connection.vendor == "postgresql" else _sqlite()
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _postgres() -> Iterator[str]:
    yield from _roles()
    for model in owned_models():
        yield from _policy(model)
        yield from _composite_keys(model)
    yield _REFUSE_CHANGE
    yield from _append_only_trigger("audit_auditevent")


def _roles() -> Iterator[str]:
    for role in (APP, SYSTEM):
        yield f"""DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} NOLOGIN; END IF;
        EXCEPTION WHEN duplicate_object THEN NULL; WHEN unique_violation THEN NULL; END $$"""
        yield f"GRANT USAGE ON SCHEMA public TO {role}"
        yield f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
        yield f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}"
    for table in APPEND_ONLY:
        yield f"REVOKE DELETE, TRUNCATE ON {table} FROM {APP}"
    yield f"REVOKE UPDATE ON audit_auditevent FROM {APP}, {SYSTEM}"
    yield f"REVOKE DELETE, TRUNCATE ON audit_auditevent FROM {SYSTEM}"


def _policy(model: type[OwnedModel]) -> Iterator[str]:
    table = model._meta.db_table
    admitted = f"tenant_id = {_TENANT}"
    if model._meta.label == "tenants.Membership":
        admitted += f" OR user_id = {_USER}"
    yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    yield f"DROP POLICY IF EXISTS tenant ON {table}"
    yield f"CREATE POLICY tenant ON {table} USING ({admitted}) WITH CHECK (tenant_id = {_TENANT})"
    yield f"DROP POLICY IF EXISTS system ON {table}"
    yield f"CREATE POLICY system ON {table} TO {SYSTEM} USING (true) WITH CHECK (true)"


def _composite_keys(model: type[OwnedModel]) -> Iterator[str]:
    """`REFERENCES` ignores row security, so a plain key could point at another tenant's row."""
    table = model._meta.db_table
    yield f"CREATE UNIQUE INDEX IF NOT EXISTS {table}_of_tenant ON {table} (tenant_id, id)"
    for field in _keys_to_owned(model):
        target = field.remote_field.model._meta.db_table
        yield f"CREATE UNIQUE INDEX IF NOT EXISTS {target}_of_tenant ON {target} (tenant_id, id)"
        name = f"{table}_{field.column}_same_tenant"
        yield f"""DO $$ BEGIN
            ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY (tenant_id, {field.column})
            REFERENCES {target} (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
        EXCEPTION WHEN duplicate_object THEN NULL; END $$"""


def _keys_to_owned(model: type[OwnedModel]) -> list[models.ForeignKey[Any, Any]]:
    return [
        field
        for field in model._meta.get_fields()
        if isinstance(field, models.ForeignKey) and issubclass(field.remote_field.model, OwnedModel)
    ]


_REFUSE_CHANGE = """CREATE OR REPLACE FUNCTION mooring_refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"""


def _append_only_trigger(table: str) -> Iterator[str]:
    yield f"DROP TRIGGER IF EXISTS append_only ON {table}"
    yield f"""CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table}
        FOR EACH ROW EXECUTE FUNCTION mooring_refuse_change()"""
    yield f"DROP TRIGGER IF EXISTS never_emptied ON {table}"
    yield f"""CREATE TRIGGER never_emptied BEFORE TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION mooring_refuse_change()"""


def _sqlite() -> Iterator[str]:
    for verb in ("UPDATE", "DELETE"):
        yield f"""CREATE TRIGGER IF NOT EXISTS audit_refuses_{verb.lower()} BEFORE {verb} ON audit_auditevent
            BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"""
