"""Two gateway processes on one PostgreSQL and Redis: what changes by one is soon true for both, and what a gateway
does while the database is away."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from urllib.parse import urlsplit

import pytest
from django.db import connection, connections

from mooring.scope import tenant_scope
from servers import services
from servers.models import CallRecord, Server, Version
from tests.conftest import World, make_world
from tests.installation import installed
from tests.origin import Do, own_loop
from tests.product.processes import PATIENCE, ProcessDriver, echo, host, key_for, promised, until

pytestmark = pytest.mark.skipif(
    os.environ["MOORING_TEST_SETUP"] == "embedded", reason="The embedded set-up has one web process."
)
# What is promised: `make soak` holds us to it, other runs allow for the tests beside this one.
PUBLISHED_SECONDS, REVOKED_SECONDS = promised(1.0), promised(2.0)
ALL_SCOPES = ("servers:call", "servers:read", "servers:write", "servers:publish", "keys:read", "keys:write")
Gateways = tuple[ProcessDriver, ProcessDriver]


class Line:
    """The one way from the gateway to the database, which can be cut and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        while self._open:
            for writer in self._open:
                writer.transport.abort()
            await asyncio.sleep(0.01)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        ends = {writer, back}
        self._open |= ends
        try:
            await asyncio.gather(_copied(reader, back), _copied(there, writer), return_exceptions=True)
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()


async def _copied(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while part := await source.read(65_536):
        target.write(part)
        await target.drain()
    target.close()


class Switch:
    """Of the line between the second gateway and the database."""

    def __init__(self, line: Line, do: Do) -> None:
        self._line = line
        self._do = do

    @property
    def port(self) -> int:
        return self._line.port

    def off(self) -> None:
        self._do(self._line.cut())

    def on(self) -> None:
        self._do(self._line.mend())


@pytest.fixture(scope="module")
def switch(database: None) -> Iterator[Switch]:
    server = urlsplit(os.environ["DATABASE_URL"])
    line = Line(server.hostname or "", server.port or 5432)
    with own_loop() as do:
        do(line.mend())
        yield Switch(line, do)
        do(line.cut())


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory, switch: Switch) -> Iterator[Gateways]:
    server = urlsplit(os.environ["DATABASE_URL"])
    by_line = {
        name: os.environ[name].replace(f"@{server.hostname}:{server.port}", f"@127.0.0.1:{switch.port}")
        for name in ("DATABASE_URL", "DATABASE_SYSTEM_URL")
    }
    with (
        installed(tmp_path_factory.mktemp("one")) as one,
        installed(tmp_path_factory.mktemp("two"), **by_line) as two,
    ):
        yield ProcessDriver(one.port), ProcessDriver(two.port)


def check_soon(since: float, limit: float) -> None:
    """What began at `since` is done now, and that is soon enough."""
    seconds = time.monotonic() - since
    assert seconds < limit


def tools_of(gateway: ProcessDriver, at: str, key: str) -> list[str]:
    return [tool["name"] for tool in gateway.modern(at, "tools/list", key=key).result["tools"]]


def readiness(gateway: ProcessDriver) -> tuple[int, str]:
    """The status of `/readyz`, and what it says of the database."""
    ready = gateway.send("/readyz", verb="GET")
    return ready.status, ready.json["checks"]["database"]["status"]


def publish(world: World, *tools: str) -> None:
    """The next version of `desk`, within the scope of its tenant."""
    server = Server.objects.get(slug="desk")
    services.replace_draft(server, echo(*tools), actor=world.actor)
    services.publish(server, actor=world.actor)


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND "
            "(database IS NULL OR database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
        )
        return bool(cursor.fetchone()[0])


def all_serve(gateways: Gateways, at: str, key: str, tool: str) -> bool:
    return all(tools_of(gateway, at, key) == [tool] for gateway in gateways)


def warm(gateways: Gateways, world: World, key_of: Callable[..., str]) -> tuple[tuple[str, str], ...]:
    """A server of acme and one of globex, each with a key, known to both gateways."""
    hosted = []
    for tenant in (world.acme, world.globex):
        at, key = host(world, echo("old"), tenant=tenant), key_of(tenant)
        until(lambda at=at, key=key: all_serve(gateways, at, key, "old"), "the first version")
        hosted.append((at, key))
    return tuple(hosted)


def test_publishes_that_wait_for_each_other_are_served_by_both_soon_after_their_commit(
    gateways: Gateways, world: World, key_of: Callable[..., str]
) -> None:
    (first, first_key), (second, second_key) = warm(gateways, world, key_of)
    is_published, may_commit = Event(), Event()

    def hold() -> float:
        with tenant_scope(world.acme.id):
            publish(world, "new")
            is_published.set()
            assert may_commit.wait(PATIENCE)
        committed = time.monotonic()
        connections.close_all()
        return committed

    def follow() -> float:
        assert is_published.wait(PATIENCE)
        with tenant_scope(world.globex.id):
            publish(world, "new")
        committed = time.monotonic()
        connections.close_all()
        return committed

    with ThreadPoolExecutor(2) as threads:
        held, followed = threads.submit(hold), threads.submit(follow)
        until(somebody_waits_for_a_lock, "the second publish to wait for the first")
        assert all_serve(gateways, first, first_key, "old")
        may_commit.set()
        committed = held.result(PATIENCE), followed.result(PATIENCE)
    for at, key, since in ((first, first_key, committed[0]), (second, second_key, committed[1])):
        until(lambda at=at, key=key: all_serve(gateways, at, key, "new"), at)
        check_soon(since, PUBLISHED_SECONDS)


def test_a_publish_in_a_transaction_older_than_another_is_not_overlooked(
    gateways: Gateways, world: World, key_of: Callable[..., str]
) -> None:
    (older, older_key), (younger, younger_key) = warm(gateways, world, key_of)
    has_begun, may_go_on = Event(), Event()

    def begin_early() -> float:
        with tenant_scope(world.acme.id):
            assert Version.objects.count() == 1  # the transaction has its snapshot, but no number of a change
            has_begun.set()
            assert may_go_on.wait(PATIENCE)
            publish(world, "new")
        committed = time.monotonic()
        connections.close_all()
        return committed

    with ThreadPoolExecutor(1) as threads:
        early = threads.submit(begin_early)
        assert has_begun.wait(PATIENCE)
        with tenant_scope(world.globex.id):
            publish(world, "new")
        done = time.monotonic()
        until(lambda: all_serve(gateways, younger, younger_key, "new"), younger)
        check_soon(done, PUBLISHED_SECONDS)
        may_go_on.set()
        committed = early.result(PATIENCE)
    until(lambda: all_serve(gateways, older, older_key, "new"), older)
    check_soon(committed, PUBLISHED_SECONDS)


def test_a_key_revoked_through_one_process_is_soon_refused_by_both(
    gateways: Gateways, world: World, key_of: Callable[..., str]
) -> None:
    at, boss = host(world, echo("old")), key_of(world.acme, ALL_SCOPES)
    made = gateways[0].api("POST", "keys", boss, b'{"name": "to be revoked"}').json
    for gateway in gateways:
        until(lambda gateway=gateway: tools_of(gateway, at, made["secret"]) == ["old"], "the key to work")
    assert gateways[0].api("DELETE", f"keys/{made['id']}", boss).status == 204
    revoked = time.monotonic()

    def is_refused() -> bool:
        statuses = [gateway.modern(at, "tools/list", key=made["secret"]).status for gateway in gateways]
        return statuses == [401, 401]

    until(is_refused, "both to refuse the key")
    check_soon(revoked, REVOKED_SECONDS)
    assert gateways[1].modern(at, "tools/list", key=boss).status == 200


def test_a_rollback_through_one_process_is_soon_served_by_both(
    gateways: Gateways, world: World, key_of: Callable[..., str]
) -> None:
    at, boss = host(world, echo("old")), key_of(world.acme, ALL_SCOPES)
    with tenant_scope(world.acme.id):
        publish(world, "new")
    until(lambda: all_serve(gateways, at, boss, "new"), "the second version")
    rolled = gateways[1].api("POST", "servers/desk/rollback", boss, b'{"version": "1.0.0"}')
    assert rolled.status == 200, rolled.body
    done = time.monotonic()
    until(lambda: all_serve(gateways, at, boss, "old"), "the first version again")
    check_soon(done, PUBLISHED_SECONDS)


def test_a_session_ended_at_one_process_is_soon_unknown_to_the_other(
    gateways: Gateways, world: World, key_of: Callable[..., str]
) -> None:
    at, key = host(world, echo("old")), key_of(world.acme)
    one, two = gateways
    session = one.session(at, "2025-11-25", key=key)
    headers = {"mcp-protocol-version": "2025-11-25"}

    def ping_elsewhere() -> int:
        return two.legacy(at, "ping", key=key, session=session.token, headers=headers).status

    assert ping_elsewhere() == 200  # and that nothing is stored of it is remembered now
    ended = {"authorization": f"Bearer {key}", "mcp-session-id": session.token}
    assert one.send(f"/t/{at}/mcp", verb="DELETE", headers=ended).status == 200
    done = time.monotonic()
    assert session.request("ping").status == 404
    until(lambda: ping_elsewhere() == 404, "the other process to know of the end")
    check_soon(done, PUBLISHED_SECONDS)


def test_without_the_database_warm_calls_go_on_cold_ones_are_told_and_all_is_caught_up(
    gateways: Gateways, switch: Switch, world: World
) -> None:
    gateway, stranger = gateways[1], make_world()
    warm, key = host(world, echo("old")), key_for(world)
    cold, cold_key = host(stranger, echo("old")), key_for(stranger)
    assert gateway.call(warm, "old", key=key)
    switch.off()
    for _ in range(5):
        assert gateway.call(warm, "old", key=key)
    for reply in (
        gateway.modern(cold, "tools/list", key=cold_key),
        gateway.modern(warm, "tools/list", key=cold_key),
    ):
        assert (reply.status, reply.error["data"]["code"]) == (503, "database_unavailable")
        assert int(reply.headers["retry-after"]) >= 1
    metadata = f"/.well-known/oauth-protected-resource/t/{cold}/mcp"
    assert gateway.send(metadata, verb="GET").status == 503
    assert gateway.send("/healthz", verb="GET").status == 200
    until(lambda: readiness(gateway) == (200, "degraded"), "readiness to notice")
    with tenant_scope(world.acme.id):
        row = Server.objects.get(slug="desk")
        services.replace_draft(row, echo("new"), actor=world.actor)
        services.publish(row, actor=world.actor)
    assert gateway.call(warm, "old", key=key)

    switch.on()
    until(
        lambda: gateway.modern(cold, "tools/list", key=cold_key).status == 200, "the cold endpoint to answer"
    )
    until(lambda: readiness(gateway) == (200, "healthy"), "readiness to notice")
    until(
        lambda: gateway.modern(warm, "tools/call", {"name": "new"}, key=key).status == 200, "the new version"
    )
    assert gateway.send(metadata, verb="GET").status == 200

    def recorded() -> int:
        with tenant_scope(world.acme.id):
            return CallRecord.objects.filter(subject="old", status="ok").count()

    until(lambda: recorded() >= 7, "the calls of the outage to be in the call log")
    assert recorded() == 7
