"""All clients of a process: one a tenant and configuration, so that eras and sessions outlive a publish."""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary

from servers.runtimes.remote.bounds import IDLE_SECONDS, SESSIONS
from servers.runtimes.remote.client import RemoteClient
from servers.runtimes.remote.endpoint import Endpoint, Introduction
from servers.runtimes.upstreams import Upstreams


class RemoteClients:
    """`get` may be called from any thread; the rest belongs to the event loop."""

    def __init__(
        self, upstreams: Upstreams, *, introduction: Introduction | None = None, sessions: int = SESSIONS
    ) -> None:
        self._upstreams = upstreams
        self._introduction = introduction
        self._sessions = sessions
        self._lock = threading.Lock()
        # Weak: a client lives as long as a binding or an open session of it.
        self._known: WeakValueDictionary[tuple[str, str], RemoteClient] = WeakValueDictionary()
        self._in_session: set[RemoteClient] = set()

    def get(self, tenant: str, endpoint: Endpoint) -> RemoteClient:
        key = (tenant, endpoint.digest)
        with self._lock:
            client = self._known.get(key)
            if client is None:
                client = self._known[key] = RemoteClient(
                    endpoint,
                    self._upstreams.get(tenant, endpoint.place),
                    introduction=self._introduction,
                    sessions=self._sessions,
                    on_session=self._in_session.add,
                )
            return client

    async def close_idle(self, seconds: float = IDLE_SECONDS) -> None:
        """End the upstream sessions unused for so long. To be called every minute or so, before the upstreams'."""
        for client in list(self._in_session):
            await client.close_idle(seconds)
            if not client.sessions_open:
                self._in_session.discard(client)

    async def close(self) -> None:
        """End all sessions; a call in one of them fails. To be called before the upstreams' own `close`."""
        while self._in_session:
            await self._in_session.pop().close()
