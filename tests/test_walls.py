"""The two walls between tenants, tried from the inside. Nothing here runs in a wrapping transaction."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, IntegrityError, connections, transaction
from django.utils import timezone

from mooring.audit.models import AuditEvent, AuditHead
from mooring.audit.record import chain_hash, first_broken_link
from mooring.scope import OwnedModel, ScopeError, system_scope, tenant_scope, user_scope
from mooring.walls import owned_models
from servers.models import Server, Tool, Version
from tenants.models import Membership, Plan, Tenant
from tenants.services import rename_tenant
from tests.conftest import World

# Rows that belong to no tenant, or that say which tenants there are. Whoever adds one says here why:
GLOBAL = {
    "tenants.Tenant",  # the list of organisations itself; holds a slug, a name and a plan
    "tenants.Plan",  # limits, the same for everyone on it
    "tenants.ChangeHead",  # the number gateways poll
    "tenants.Change",  # ids of what changed, read by gateways for all tenants
    "accounts.User",  # people belong to several tenants
    "account.EmailAddress",
    "account.EmailConfirmation",
    "auth.Group",
    "auth.Permission",
    "contenttypes.ContentType",
    "sessions.Session",
    "admin.LogEntry",  # staff only
}

needs_row_security = pytest.mark.skipif(
    "not config.getoption('--setup') == 'production'", reason="SQLite has one wall, and says so"
)
OWNED = pytest.mark.parametrize("model", owned_models(), ids=lambda model: model._meta.label)


def server_of(tenant: Tenant) -> Server:
    with tenant_scope(tenant.id):
        return Server.objects.create(tenant=tenant, slug=f"s-{secrets.token_hex(4)}", title="A server")


def rows(alias: str, query: str, *parameters: object) -> list[tuple[object, ...]]:
    with connections[alias].cursor() as cursor:
        cursor.execute(query, parameters)
        return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def refused(message: str, alias: str = "default") -> Iterator[None]:
    """The database itself says no, with these words."""
    with pytest.raises(DatabaseError, match=message), transaction.atomic(using=alias):
        yield


# ---- the first wall: the manager -------------------------------------------------------------------------


def test_every_model_is_owned_by_a_tenant_or_listed_as_global() -> None:
    labels = {model._meta.label for model in apps.get_models() if not issubclass(model, OwnedModel)}
    assert labels == GLOBAL


@OWNED
def test_a_query_outside_any_scope_raises(model: type[OwnedModel]) -> None:
    with pytest.raises(ScopeError, match=model.__name__):
        model.objects.count()


def test_a_related_manager_outside_any_scope_raises(world: World) -> None:
    server = server_of(world.acme)
    with pytest.raises(ScopeError):
        list(server.tools.all())


def test_a_scope_shows_one_tenants_rows_only(world: World) -> None:
    ours, theirs = server_of(world.acme), server_of(world.globex)
    with tenant_scope(world.acme.id):
        assert list(Server.objects.all()) == [ours]
        assert not Server.objects.filter(id=theirs.id).exists()
        assert Server.objects.filter(id=theirs.id).update(title="taken") == 0
        assert Server.objects.filter(id=theirs.id).delete()[0] == 0


def test_scopes_nest_and_come_back(world: World) -> None:
    ours, theirs = server_of(world.acme), server_of(world.globex)
    with tenant_scope(world.acme.id):
        with tenant_scope(world.globex.id):
            assert list(Server.objects.all()) == [theirs]
        assert list(Server.objects.all()) == [ours]


def test_a_failure_in_an_inner_scope_leaves_the_outer_one_standing(world: World) -> None:
    ours = server_of(world.acme)
    with tenant_scope(world.acme.id):
        with pytest.raises(ZeroDivisionError), tenant_scope(world.globex.id):
            _ = 1 / 0
        assert list(Server.objects.all()) == [ours]
    with pytest.raises(ScopeError):
        Server.objects.count()


def test_a_user_scope_shows_a_persons_own_memberships(world: World) -> None:
    with user_scope(world.bob.pk):
        assert {row.tenant_id for row in Membership.objects.filter(user=world.bob)} == {world.acme.id}


def test_the_system_scope_sees_all_tenants(world: World) -> None:
    ids = {server_of(world.acme).id, server_of(world.globex).id}
    with system_scope():
        assert set(Server.objects.filter(id__in=ids).values_list("id", flat=True)) == ids


# ---- the second wall: row-level security -----------------------------------------------------------------


@needs_row_security
@OWNED
def test_row_security_is_forced_with_both_policies(model: type[OwnedModel]) -> None:
    table = model._meta.db_table
    (switches,) = rows(
        "default", "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = %s::regclass", table
    )
    policies = rows(
        "default", "SELECT policyname, roles::text[] FROM pg_policies WHERE tablename = %s", table
    )
    assert switches == (True, True)
    assert sorted(policies) == [("system", ["mooring_system"]), ("tenant", ["public"])]


@needs_row_security
@pytest.mark.parametrize("alias", ["default", "system"])
def test_the_products_roles_can_neither_skip_row_security_nor_own_a_table(alias: str) -> None:
    query = (
        "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
    )
    assert rows(alias, query) == [(False, False, False, False)]
    assert rows(alias, "SELECT tablename FROM pg_tables WHERE tableowner = current_user") == []


@needs_row_security
def test_the_apps_role_cannot_become_the_system_role() -> None:
    with refused("permission denied to set role"):
        rows("default", "SET LOCAL ROLE mooring_system")


@needs_row_security
@OWNED
def test_sql_without_a_scope_finds_no_row(model: type[OwnedModel], world: World) -> None:
    server_of(world.acme)
    assert rows("default", f"SELECT count(*) FROM {model._meta.db_table}") == [(0,)]


@needs_row_security
def test_sql_in_a_scope_finds_only_that_tenants_rows(world: World) -> None:
    server_of(world.acme), server_of(world.globex)
    for tenant in (world.acme, world.globex):
        with tenant_scope(tenant.id):
            assert rows("default", "SELECT DISTINCT tenant_id FROM servers_server") == [(tenant.id,)]


@needs_row_security
def test_the_connection_forgets_the_tenant_when_the_scope_ends(world: World) -> None:
    server_of(world.acme)
    with tenant_scope(world.acme.id):
        assert rows("default", "SELECT count(*) FROM servers_server") == [(1,)]
    assert rows("default", "SELECT count(*) FROM servers_server") == [(0,)]


@needs_row_security
def test_a_row_for_another_tenant_is_refused(world: World) -> None:
    with tenant_scope(world.acme.id), refused("row-level security"):
        Membership.objects.create(tenant=world.globex, user=world.alice, role="owner")


@needs_row_security
def test_a_row_cannot_be_handed_to_another_tenant(world: World) -> None:
    server = server_of(world.acme)
    with tenant_scope(world.acme.id), refused("row-level security"):
        Server.objects.filter(id=server.id).update(tenant=world.globex)


@needs_row_security
def test_a_user_scope_reads_but_never_writes(world: World) -> None:
    with user_scope(world.eve.pk), refused("row-level security"):
        rows(
            "default",
            "UPDATE tenants_membership SET role = 'admin' WHERE user_id = %s RETURNING 1",
            world.eve.pk,
        )


@needs_row_security
def test_a_key_to_another_tenants_row_is_refused(world: World) -> None:
    """Foreign keys are checked past row security, so only the composite key stops this."""
    theirs = server_of(world.globex)
    with pytest.raises(IntegrityError, match="same_tenant"), tenant_scope(world.acme.id):
        Tool.objects.create(tenant=world.acme, server=theirs, name="spy")


@needs_row_security
def test_even_the_system_role_cannot_tie_two_tenants_together(world: World) -> None:
    theirs = server_of(world.globex)
    with pytest.raises(IntegrityError, match="same_tenant"), system_scope():
        Tool.objects.create(tenant=world.acme, server=theirs, name="spy")


@needs_row_security
def test_every_key_between_owned_rows_is_composite() -> None:
    query = """SELECT conname FROM pg_constraint WHERE contype = 'f' AND array_length(conkey, 1) = 2"""
    composite = {name for (name,) in rows("default", query)}
    expected = {
        f"{model._meta.db_table}_{field.column}_same_tenant"
        for model in owned_models()
        for field in model._meta.concrete_fields
        if field.related_model and issubclass(field.related_model, OwnedModel)
    }
    assert expected <= composite
    assert len(expected) >= 8


@needs_row_security
def test_versions_cannot_be_removed_by_the_app(world: World) -> None:
    server = server_of(world.acme)
    with tenant_scope(world.acme.id):
        Version.objects.create(
            tenant=world.acme,
            server=server,
            number="1.0.0",
            ordinal=1,
            digest="0" * 64,
            manifest={},
            author="a",
        )
        with refused("permission denied"):
            rows("default", "DELETE FROM servers_version RETURNING 1")


# ---- the audit log ---------------------------------------------------------------------------------------


def test_audit_events_can_be_neither_changed_nor_removed(world: World) -> None:
    with tenant_scope(world.acme.id):
        for statement in (
            "UPDATE audit_auditevent SET actor_name = 'nobody'",
            "DELETE FROM audit_auditevent",
        ):
            with refused(r"permission denied|append-only"):
                rows("default", f"{statement} WHERE tenant_id = %s", _as_stored(world.acme))
    with tenant_scope(world.acme.id):
        assert first_broken_link(world.acme.id) is None


def _as_stored(tenant: Tenant) -> str:
    return str(Tenant._meta.pk.get_db_prep_value(tenant.id, connections["default"]))


@needs_row_security
@pytest.mark.parametrize("alias", ["default", "system", "owner"])
@pytest.mark.parametrize(
    "verb",
    ["UPDATE audit_auditevent SET ip = ''", "DELETE FROM audit_auditevent", "TRUNCATE audit_auditevent"],
)
def test_no_role_can_touch_the_audit_log(world: World, alias: str, verb: str) -> None:
    with tenant_scope(world.acme.id), refused(r"permission denied|append-only", alias):
        rows(alias, "SELECT set_config('app.tenant', %s, true)", str(world.acme.id))
        rows(alias, verb)


def test_the_chain_of_a_tenants_audit_log_holds(world: World) -> None:
    with tenant_scope(world.acme.id):
        for name in ("Acme Ltd", "Acme Inc"):
            rename_tenant(world.acme, name=name, actor=world.actor)
        assert first_broken_link(world.acme.id) is None
        assert AuditEvent.objects.count() == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("actor_name", "mallory"),
        ("after", {"name": "B0b"}),
        ("time", timezone.now()),
        ("previous_hash", "f" * 64),
    ],
)
def test_one_changed_byte_breaks_the_chain_at_its_event(field: str, value: object) -> None:
    tenant = tenant_without_events()
    events = chain(tenant, 4)
    setattr(events[2], field, value)
    with tenant_scope(tenant.id):
        AuditEvent.objects.bulk_create(events)
        assert first_broken_link(tenant.id) == 3


def test_a_chain_without_its_last_event_is_noticed() -> None:
    tenant = tenant_without_events()
    events = chain(tenant, 3)
    with tenant_scope(tenant.id):
        AuditHead.objects.create(tenant=tenant, sequence=3, hash=events[2].hash)
        AuditEvent.objects.bulk_create(events[:2])
        assert first_broken_link(tenant.id) == 3


def test_an_event_cannot_be_moved_to_another_tenants_chain(world: World) -> None:
    with tenant_scope(world.acme.id):
        event = AuditEvent.objects.earliest("sequence")
    event.tenant_id = world.globex.id
    assert chain_hash(event) != event.hash


def tenant_without_events() -> Tenant:
    plan = Plan.objects.get(name="standard")
    return Tenant.objects.create(slug=f"copy-{secrets.token_hex(4)}", name="Copy", plan=plan)


def chain(tenant: Tenant, length: int) -> list[AuditEvent]:
    """Events not yet stored, each sealed to the one before."""
    events: list[AuditEvent] = []
    for sequence in range(1, length + 1):
        event = AuditEvent(
            tenant=tenant,
            sequence=sequence,
            time=timezone.now(),
            action="tenant.renamed",
            after={"name": "Bob"},
            previous_hash=events[-1].hash if events else "0" * 64,
        )
        event.hash = chain_hash(event)
        events.append(event)
    return events


def test_the_three_roles_are_three_connections_only_where_there_is_row_security() -> None:
    aliases = {"default", settings.SYSTEM_DATABASE, settings.OWNER_DATABASE}
    assert len(aliases) == (3 if connections["default"].vendor == "postgresql" else 1)
