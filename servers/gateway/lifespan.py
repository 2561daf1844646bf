"""Starting and stopping a gateway with its process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from django.conf import settings

from mooring.egress.session import session
from mooring.errors import Unavailable
from servers.gateway.app import Gateway
from servers.gateway.plane import Plane
from servers.gateway.request import Receive, Scope, Send
from servers.gateway.wakeups import Wakeups
from servers.pipeline.caching import SharedAnswers
from servers.pipeline.directory import Directory
from servers.pipeline.following import shipping_of
from servers.pipeline.journal import Journal
from servers.pipeline.parts import Runtimes
from servers.pipeline.shipping import Shipping
from servers.pipeline.turned_away import Clerk, register
from servers.pipeline.watching import Watcher
from servers.protocol.tokens import Sealer
from servers.runtimes.upstreams import Upstreams
from tenants.quotas import LocalQuotas

log = structlog.get_logger(__name__)
POLL_SECONDS = 0.5
# Whoever makes changes without end must not make every gateway read and drop without end.
SHORTEST_PAUSE = 0.05
TIDY_SECONDS = 60.0
STOP_SECONDS = 2.0


class Lifespan:
    """ASGI lifespan protocol around one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.AsyncExitStack() as stack:
            while True:
                message = await receive()
                if message["type"] == "lifespan.startup":
                    self._gateway.plane = await stack.enter_async_context(running_plane())
                    await send({"type": "lifespan.startup.complete"})
                else:
                    self._gateway.plane = None
                    await stack.aclose()
                    await send({"type": "lifespan.shutdown.complete"})
                    return


@contextlib.asynccontextmanager
async def running_plane(*, watches: bool = True) -> AsyncIterator[Plane]:
    """Everything a gateway needs, started in the order of dependence and stopped in reverse.

    With `watches` it also probes upstreams whose turn it is.
    """
    runtimes = Runtimes.over(Upstreams(session), _shared_answers(), runner=settings.RUNNER_DIR)
    directory = Directory(runtimes)
    journal = Journal(settings.JOURNAL_DIR)
    shipping = shipping_of(journal)
    clerk = Clerk(register)
    clerk.start()
    wakeups = Wakeups()
    await directory.start()
    watcher = Watcher(runtimes)
    tasks = [asyncio.create_task(_poll(directory, wakeups, shipping)), asyncio.create_task(_tidy(runtimes))]
    if watches:
        tasks.append(asyncio.create_task(watcher.run()))
    try:
        yield Plane(directory, journal, LocalQuotas(), Sealer(settings.SECRET_KEY))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=STOP_SECONDS)
        directory.successions.close()
        await wakeups.close()
        await runtimes.close()
        await asyncio.to_thread(watcher.close)
        await asyncio.to_thread(directory.close)
        await asyncio.to_thread(clerk.stop)
        await asyncio.to_thread(shipping.stop)
        journal.close()


async def _tidy(runtimes: Runtimes) -> None:
    while True:
        await asyncio.sleep(TIDY_SECONDS)
        await runtimes.close_idle()


async def _poll(directory: Directory, wakeups: Wakeups, shipping: Shipping) -> None:
    """See each change within half a second, sooner when the bus works. While the database is away, serve on."""
    await wakeups.listen()
    while True:
        await wakeups.wait(POLL_SECONDS)
        try:
            shipping.look()
            await directory.catch_up()
        except Unavailable as error:
            log.warning("changes.unreadable", reason=error.reason, seconds=round(directory.blind_for, 1))
        except (
            Exception
        ):  # this loop outlives whatever goes wrong: without it revoked keys would go on working
            log.exception("changes.unreadable")
        await asyncio.sleep(SHORTEST_PAUSE)


def _shared_answers() -> SharedAnswers | None:
    if not settings.REDIS_URL:
        return None
    from servers.pipeline.shared_answers import RedisAnswers  # without Redis its client is never loaded

    return RedisAnswers(settings.REDIS_URL)
