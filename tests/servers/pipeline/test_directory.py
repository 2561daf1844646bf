"""What the data plane knows: kept while it is asked for, dropped when it changes, trusted while changes are read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import pytest
from django.conf import settings
from django.db import connections, models, transaction

from mooring.egress.session import session
from mooring.errors import Unavailable
from mooring.scope import system_scope, tenant_scope
from servers import services
from servers.models import Override, Server
from servers.pipeline import loading
from servers.pipeline.directory import MAX_RUNS, THREADS, TRUST_SECONDS, Cache, Directory
from servers.pipeline.parts import Runtimes
from servers.pipeline.principals import Principal
from servers.pipeline.snapshot import Snapshot
from servers.runtimes.upstreams import Upstreams
from tenants.models import ApiKey, Change, ChangeHead
from tenants.services import create_key, revoke_key
from tests.conftest import World
from tests.product.processes import echo, host

T = TypeVar("T")


class Shelf:
    """Loads values by upper-casing; everything waits while it is closed."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def load(self, key: str) -> str | None:
        self.loads.append(key)
        await self.is_open.wait()
        return None if key.startswith("no") else key.upper()


async def begun(cache: Cache[str, str], shelf: Shelf, *keys: str) -> list[asyncio.Task[str | None]]:
    """Loads of the keys that have started and wait for the shelf to open."""
    shelf.is_open.clear()
    loads = [asyncio.ensure_future(cache.get(key, shelf.load)) for key in keys]
    while len(shelf.loads) < len(keys):
        await asyncio.sleep(0)
    return loads


# ---- the cache -------------------------------------------------------------------------------------------


async def test_a_change_loads_again_only_what_it_touches() -> None:
    cache, shelf = Cache[str, str](10), Shelf()
    loads = await begun(cache, shelf, "a", "b", "none", "nothing")
    cache.drop(lambda key, value: value == "A" or key == "none")
    shelf.is_open.set()
    assert await asyncio.gather(*loads) == ["A", "B", None, None]
    assert sorted(shelf.loads) == ["a", "a", "b", "none", "none", "nothing"]


async def test_a_flood_of_misses_is_loaded_once_each_whatever_else_changes() -> None:
    cache, shelf = Cache[str, str](1_000), Shelf()
    flood = [f"no{number}" for number in range(500)]
    loads = await begun(cache, shelf, *flood)
    for _ in range(20):
        cache.drop(lambda key, _: key == "another")
    shelf.is_open.set()
    await asyncio.gather(*loads)
    assert shelf.loads == flood


async def test_what_is_forgotten_while_it_loads_is_loaded_again() -> None:
    cache, shelf = Cache[str, str](10), Shelf()
    (load,) = await begun(cache, shelf, "a")
    cache.forget("a")
    cache.forget("b")
    shelf.is_open.set()
    assert await load == "A"
    assert shelf.loads == ["a", "a"]


async def test_what_changes_faster_than_it_loads_is_given_up() -> None:
    cache, loads = Cache[str, str](10), 0

    async def load(key: str) -> str:
        nonlocal loads
        loads += 1
        cache.drop(lambda _, value: value == "A")
        return key.upper()

    with pytest.raises(Unavailable, match="faster"):
        await cache.get("a", load)
    assert loads == MAX_RUNS
    assert cache.peek("a") is None


async def test_what_is_asked_for_survives_a_flood_of_others() -> None:
    cache, shelf = Cache[str, str](100), Shelf()
    await cache.get("live", shelf.load)
    await cache.get("forgotten", shelf.load)
    for number in range(2_000):
        await cache.get(f"v{number}", shelf.load)
        if number % 40 == 0:
            assert cache.peek("live") == "LIVE"
    assert cache.peek("live") == "LIVE"
    assert cache.peek("forgotten") is None
    assert sum(cache.peek(f"v{number}") is not None for number in range(2_000)) == 99


async def test_a_change_touches_the_families_it_is_about_and_nothing_else() -> None:
    cache, shelf = Cache[str, str](4, family=lambda key, _: key[0]), Shelf()
    for key in ("a1", "a2", "b1", "b2"):
        await cache.get(key, shelf.load)
    looked_at: list[str] = []

    def is_touched(key: str, _: str | None) -> bool:
        looked_at.append(key)
        return key == "a1"

    cache.drop(is_touched, families=["a", "c"])
    assert sorted(looked_at) == ["a1", "a2"]
    for key in ("b3", "b4"):
        await cache.get(key, shelf.load)
    assert [cache.peek(key) for key in ("a1", "a2", "b1", "b2")] == [None, None, "B1", "B2"]
    assert dict(cache.relatives("b")) == {key: key.upper() for key in ("b1", "b2", "b3", "b4")}
    cache.forget("b1")
    cache.clear()
    assert cache.relatives("b") == []


async def test_missing_names_displace_nothing_and_are_bounded_themselves() -> None:
    cache, shelf = Cache[str, str](2, missing=3), Shelf()
    await cache.get("a", shelf.load)
    for number in range(5):
        assert await cache.get(f"no{number}", shelf.load) is None
    shelf.loads.clear()
    assert await cache.get("a", shelf.load) == "A"
    for name in ("no4", "no3", "no2"):
        await cache.get(name, shelf.load)
    assert shelf.loads == []
    await cache.get("no0", shelf.load)
    assert shelf.loads == ["no0"]


# ---- the directory ---------------------------------------------------------------------------------------


@asynccontextmanager
async def directory(*, poll_seconds: float = 5.0, ask_seconds: float = 5.0) -> AsyncIterator[Directory]:
    """Started, and not polling by itself."""
    runtimes = Runtimes.over(Upstreams(session))
    made = Directory(runtimes, poll_seconds=poll_seconds, ask_seconds=ask_seconds)
    try:
        await made.start()
        yield made
    finally:
        await asyncio.to_thread(made.close)


async def in_thread(work: Callable[[], T]) -> T:
    def run() -> T:
        try:
            return work()
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


def issued(world: World) -> ApiKey:
    with tenant_scope(world.acme.id):
        return create_key(world.acme, name="ci", user=world.alice, actor=world.actor).row


async def test_a_change_makes_its_own_missing_names_unknown_and_no_others(world: World) -> None:
    acme, globex = (world.acme.slug, "desk"), (world.globex.slug, "desk")

    def make() -> None:
        with tenant_scope(world.acme.id):
            services.create_server(world.acme, slug="desk", title="Desk", actor=world.actor)

    async with directory() as known:
        assert await known.endpoint(*acme) is None
        assert await known.endpoint(*globex) is None
        await in_thread(make)
        await known.catch_up()
        assert list(known.endpoints._missing) == [globex]
        found = await known.endpoint(*acme)
    assert found is not None
    assert found.facts.slug == "desk"


async def test_a_revoked_key_is_known_as_one_that_may_nothing(world: World) -> None:
    key = await in_thread(lambda: issued(world))

    def revoke() -> None:
        with tenant_scope(world.acme.id):
            revoke_key(key, actor=world.actor)

    async with directory() as known:
        live = await known.principal_of_key(key.digest)
        await in_thread(revoke)
        await known.catch_up()
        revoked = await known.principal_of_key(key.digest)
        assert known.principals.peek(key.digest) is None
        assert await known.principal_of_key("0" * 64) is None
    assert isinstance(live, Principal)
    assert (live.is_barred, "servers:call" in live.permissions) == (False, True)
    assert revoked is not None
    assert (revoked.is_barred, revoked.permissions, revoked.id) == (True, frozenset(), str(key.id))


async def test_more_changes_than_a_page_are_all_read_at_once(world: World) -> None:
    def announce_many() -> None:
        """As many services would, in one statement."""
        with system_scope(), transaction.atomic(using=settings.SYSTEM_DATABASE):
            head = ChangeHead.objects.select_for_update().get(id=1)
            Change.objects.bulk_create(
                Change(number=head.number + n, kind="key", tenant_id=world.acme.id, ref="x")
                for n in range(1, loading.PAGE + 2)
            )
            head.number += loading.PAGE + 1
            head.save()

    async with directory() as known:
        before = known._seen
        await in_thread(announce_many)
        await known.catch_up()
        assert known._seen >= before + loading.PAGE + 1


async def test_credentials_are_taken_only_while_changes_are_read(world: World) -> None:
    key = await in_thread(lambda: issued(world))
    async with directory() as known:
        assert await known.principal_of_key(key.digest) is not None
        known._trust_since(time.monotonic() - TRUST_SECONDS + 0.05)
        assert not known.is_blind
        async with asyncio.timeout(10):
            while not known.is_blind:
                await asyncio.sleep(0.01)
        assert known.blind_for >= TRUST_SECONDS
        assert known.principals.peek(key.digest) is None
        with pytest.raises(Unavailable) as refused:
            await known.principal_of_key(key.digest)
        assert refused.value.reason == "changes_unavailable"
        with pytest.raises(Unavailable):
            await known.principal_of_pass(world.alice.pk, world.acme.id)
        assert await known.endpoint(world.acme.slug, "none") is None
        await known.catch_up()
        assert await known.principal_of_key(key.digest) is not None


def never_ends(alias: str = settings.SYSTEM_DATABASE) -> None:
    is_postgres = connections[alias].vendor == "postgresql"
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_sleep(600)" if is_postgres else endless)


async def test_a_database_that_says_nothing_is_hung_up_on_and_asked_again() -> None:
    async with directory(poll_seconds=0.3) as known:
        async with asyncio.timeout(1.5):  # shorter than the database's own limit
            with pytest.raises(Unavailable):
                await known._ask(never_ends)
        age = known.blind_for
        async with asyncio.timeout(10):
            while known.blind_for >= age:
                try:
                    await known.catch_up()
                except Unavailable:  # the thread is still being freed
                    continue
        assert not known.is_blind


@pytest.mark.parametrize("alias", ["default", settings.SYSTEM_DATABASE])
async def test_misses_of_a_database_that_says_nothing_end_and_free_their_threads(
    world: World, alias: str
) -> None:
    async with directory(ask_seconds=0.3) as known:
        misses = [known.in_thread(partial(never_ends, alias)) for _ in range(THREADS)]
        async with asyncio.timeout(1.5):  # shorter than the database's own limit
            ends = await asyncio.gather(*misses, return_exceptions=True)
        assert [type(end) for end in ends] == [Unavailable] * THREADS
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await known.endpoint(world.acme.slug, "desk") is None
                    break
                except Unavailable:  # the threads are still being freed
                    continue


@asynccontextmanager
async def locked(model: type[models.Model]) -> AsyncIterator[None]:
    """Nobody can read the model's table."""
    if connections["default"].vendor != "postgresql":
        pytest.skip("On SQLite, nobody can lock readers out.")
    is_locked, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def lock() -> None:
        with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
            cursor.execute(f"LOCK TABLE {model._meta.db_table} IN ACCESS EXCLUSIVE MODE")
            loop.call_soon_threadsafe(is_locked.set)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(timeout=30)

    locking = asyncio.ensure_future(in_thread(lock))
    await is_locked.wait()
    try:
        yield
    finally:
        release.set()
        await locking


async def test_a_poll_that_waits_for_a_lock_ends_by_the_limit_of_its_statement() -> None:
    async with directory(poll_seconds=25) as known:
        async with locked(Change), asyncio.timeout(20):
            with pytest.raises(Unavailable) as refused:
                await known.catch_up()
        assert refused.value.reason == "database_unavailable"
        await known.catch_up()


@pytest.mark.parametrize("model", [Server, Override])
async def test_a_miss_that_waits_for_a_lock_ends_by_the_limit_of_its_statement(
    world: World, model: type[models.Model]
) -> None:
    """Servers are read by the system's role, what belongs to one is read by the app's."""
    at = await in_thread(lambda: host(world, echo("echo")))
    async with directory(ask_seconds=25) as known:

        async def loaded() -> Snapshot | None:
            endpoint = await known.endpoint(*at.split("/"))
            assert endpoint is not None
            return await known.snapshot(endpoint, "live")

        async with locked(model), asyncio.timeout(9):  # less than a miss may take in all
            with pytest.raises(Unavailable) as refused:
                await loaded()
        assert refused.value.reason == "database_unavailable"
        assert await loaded() is not None
