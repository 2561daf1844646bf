"""The cast and the stage. Tests commit for real and never clean up: each makes its own tenants.

`pytest --setup embedded` (default) runs on SQLite and in memory; `--setup production` on PostgreSQL and
Redis, which are found or started (tests/services.py).
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests import environment

if TYPE_CHECKING:
    from django.test import Client
    from pytest_django import DjangoDbBlocker

    from mooring.accounts.models import User
    from mooring.audit.record import Actor
    from tenants.models import Tenant

PASSWORD = "correct horse battery"
# A loaded machine is no failure, and a failure is the same on every machine; `make soak` looks further.
hypothesis.settings.register_profile(
    "steady", deadline=None, derandomize="MOORING_SOAK" not in os.environ, database=None
)
hypothesis.settings.load_profile("steady")
_SLOW = ("tests/servers/runner/", "tests/product/", "tests/servers/runtimes/remote/", "tests/mooring/cli/")
# One set-up is enough for what knows neither database nor Redis, as the import contracts say, …
_ONCE = (
    "tests/servers/importers/",
    "tests/servers/protocol/",
    "tests/servers/runner/",
    "tests/servers/runtimes/",
    "tests/servers/test_manifest_upstreams.py",
    "tests/servers/test_manifests.py",
    "tests/servers/test_schemas.py",
    "tests/mooring/cli/test_serving.py",
    "tests/mooring/cli/test_stepping_down.py",
    "tests/mooring/test_egress.py",
    "tests/test_layout.py",
    # … for what brings a database of its own, …
    "tests/product/test_dev.py",
    "tests/test_deploy.py",
    # … and for sandboxes, browsers and programs around what other tests do in both.
    "tests/mooring/dashboard/test_snippets.py",
    "tests/product/test_code_deployed.py::test_a_server_of_every_kind",
    "tests/product/test_code_pages.py",
    "tests/product/test_upstream_pages.py",
    "tests/servers/gateway/test_code_in_sandboxes.py",
)
_STACK = pytest.StashKey[ExitStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--setup",
        choices=environment.SETUPS,
        default="embedded",
        help="embedded: SQLite, all in memory; production: PostgreSQL and Redis",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read the settings once the environment is ready; pytest-django then calls `django.setup()`."""
    config.addinivalue_line(
        "markers", "requirement(*ids): what the test proves; tests/protocol/requirements.py"
    )
    config.stash[_STACK] = stack = ExitStack()
    if not hasattr(config, "workerinput"):
        stack.enter_context(environment.prepared(config.getoption("--setup")))
    environment.enter_worker(os.environ.get("PYTEST_XDIST_WORKER", "main"))
    _read_settings()


def _read_settings() -> None:
    """Unset again at once: workers read theirs themselves; processes that tests start run the product's."""
    from django.conf import settings

    if settings.configured:
        raise pytest.UsageError("Unset DJANGO_SETTINGS_MODULE: tests bring their own settings.")
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    assert settings.INSTALLED_APPS
    del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_unconfigure(config: pytest.Config) -> None:
    if stack := config.stash.get(_STACK, None):
        stack.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("django_db"):
            raise pytest.UsageError(f"{item.nodeid}: drop the django_db mark; tests here commit for real.")
    if os.environ["MOORING_TEST_SETUP"] == "production":
        again = [item for item in items if item.nodeid.startswith(_ONCE)]
        config.hook.pytest_deselected(items=again)
        items[:] = [item for item in items if not item.nodeid.startswith(_ONCE)]
    # Those that start real processes first.
    items.sort(key=lambda item: not item.nodeid.startswith(_SLOW))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was left out and why; a hundred tests may have one reason."""
    why = Counter(str(report.longrepr[-1]) for report in terminalreporter.getreports("skipped"))
    for reason, count in why.most_common():
        terminalreporter.line(f"{count} left out: {reason.removeprefix('Skipped: ')}")


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """One migrated database a worker, made by the owner role; tests connect as the app's role."""
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    with django_db_blocker.unblock():
        if os.environ["MOORING_TEST_SETUP"] == "production":
            environment.create_database()
        call_command("migrate", database=settings.OWNER_DATABASE, interactive=False, verbosity=0)
        if settings.OWNER_DATABASE != "default":
            connections[settings.OWNER_DATABASE].close()
        else:
            _keep_migrated(settings.DATA_DIR / environment.MIGRATED)
        yield
        connections.close_all()


def _keep_migrated(copy: Path) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM INTO %s", [str(copy)])


@pytest.fixture(scope="session", autouse=True)
def database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Every test may use the database."""
    with django_db_blocker.unblock():
        yield


@dataclass(frozen=True, slots=True)
class World:
    """Two organisations and their people. Eve belongs to the other one."""

    acme: Tenant
    globex: Tenant
    alice: User
    bob: User
    dora: User
    eve: User
    actor: Actor


@pytest.fixture
def world() -> World:
    return make_world()


def make_world() -> World:
    """Slugs and addresses are unique (`acme-3f09c1`), so that tests never meet."""
    from mooring.scope import tenant_scope
    from tenants.access import actor_of
    from tenants.services import add_member, create_tenant

    mark = secrets.token_hex(4)
    alice, bob, dora, eve = (
        verified_user(f"{name}-{mark}@example.com") for name in ("alice", "bob", "dora", "eve")
    )
    acme = create_tenant(f"acme-{mark}", name="Acme", owner=alice, actor=actor_of(alice))
    globex = create_tenant(f"globex-{mark}", name="Globex", owner=eve, actor=actor_of(eve))
    with tenant_scope(acme.id):
        add_member(acme, user=bob, role="viewer", actor=actor_of(alice))
        add_member(acme, user=dora, role="developer", actor=actor_of(alice))
    return World(acme, globex, alice, bob, dora, eve, actor_of(alice))


def verified_user(email: str) -> User:
    """Someone who has confirmed the address and signs in with `PASSWORD`."""
    from allauth.account.models import EmailAddress

    from mooring.accounts.models import User

    user = User.objects.create_user(email, PASSWORD)
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


@pytest.fixture
def client_of() -> Callable[[User], Client]:
    """`client_of(user)` is a browser in which that user is signed in."""
    from django.test import Client

    def make(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def key_of() -> Callable[..., str]:
    """`key_of(tenant)` is the secret of a fresh key of the tenant's owner; it may call and nothing else."""
    from mooring.scope import tenant_scope
    from tenants.access import actor_of
    from tenants.models import Membership
    from tenants.permissions import DEFAULT_KEY_SCOPES
    from tenants.services import create_key

    def make(
        tenant: Tenant,
        scopes: Sequence[str] = DEFAULT_KEY_SCOPES,
        *,
        user: User | None = None,
        servers: Sequence[str] = (),
    ) -> str:
        with tenant_scope(tenant.id):
            holder = user or Membership.objects.select_related("user").filter(role="owner")[0].user
            issued = create_key(
                tenant, name="test", user=holder, actor=actor_of(holder), scopes=scopes, servers=servers
            )
        return issued.secret

    return make
