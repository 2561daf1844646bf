"""All uploaded code that this process calls: one client a specification, which outlives a publish that keeps it."""

from __future__ import annotations

import asyncio
import secrets
import threading
import weakref
from collections import deque
from contextlib import suppress
from functools import partial
from pathlib import Path

import aiohttp
from aiohttp import ClientTimeout

from servers.runner.client import SOCKET, RunnerClient
from servers.runner.engine import RunSpec, instance_key
from servers.runner.errors import Refused
from servers.runtimes.code.instance import Ground, Instance
from servers.runtimes.code.sessions import Sessions
from servers.runtimes.remote.calling import Caller
from servers.runtimes.remote.endpoint import Introduction
from servers.runtimes.remote.failures import CallFailed
from servers.runtimes.upstreams import IDLE_SECONDS, Upstreams

# Starts in the background. Code that is not started ahead is started by its first call.
MOST_WAKING = 16
# What nothing refers to any more is ended once nobody has called it for so long, in any process.
SILENT_SECONDS = 300.0
# Instances to end, and those of one client; what goes beyond ends when it has been idle for the runner's own time.
MOST_UNUSED = 1_000
CONNECT_SECONDS = 2.0


class CodeClients:
    """Made on the event loop that it works on; `get` and `wake` may be called from any thread.

    `folder` is where the runner has its socket. There need be none: then calls are refused with a sentence.
    """

    def __init__(self, folder: Path, *, introduction: Introduction | None = None) -> None:
        self.runner = RunnerClient(folder)
        self._socket = folder / SOCKET
        self._introduction = introduction or Introduction()
        self._upstreams = Upstreams(partial(_session, self._socket))
        self._loop = asyncio.get_running_loop()
        # Specifications are told apart by it here; the runner has names of its own for what it runs.
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        # Weak: a client lives as long as a binding.
        self._known: weakref.WeakValueDictionary[str, Caller] = weakref.WeakValueDictionary()
        self._unused: deque[tuple[str, str]] = deque(maxlen=MOST_UNUSED)
        self._waking: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, spec: RunSpec) -> Caller:
        name = f"{spec.mode} {instance_key(self._secret, spec)}"
        with self._lock:
            client = self._known.get(name)
            if client is None:
                client = self._known[name] = self._made(name, spec)
            return client

    def wake(self, client: Instance) -> None:
        """Have it started in the background, so that its first call need not wait."""
        self._loop.call_soon_threadsafe(self._begin_waking, client)

    async def close_idle(self) -> None:
        """End what nothing refers to any more. To be called every minute or so."""
        await self._end_unused()
        await self._upstreams.close_idle(IDLE_SECONDS)

    async def close(self) -> None:
        """A call that runs fails. What the runner runs goes on there until it is idle."""
        for task in self._waking:
            task.cancel()
        if self._waking:
            await asyncio.wait(self._waking)
        await self._upstreams.close()
        await self.runner.close()

    def _made(self, name: str, spec: RunSpec) -> Caller:
        started: deque[str] = deque(maxlen=MOST_UNUSED)
        ground = Ground(self.runner, self._socket, self._introduction, partial(_note, started))

        def instance(session: str = "", opened: int = 0) -> Instance:
            upstream = self._upstreams.get(spec.tenant, instance_key(self._secret, spec, session))
            return Instance(ground, spec, upstream, session, opened)

        client = Sessions(instance) if spec.mode == "session" else instance()
        weakref.finalize(client, self._note_unused, name, started).atexit = False
        return client

    def _note_unused(self, name: str, started: deque[str]) -> None:
        """Of a client that is gone. On whatever thread that happened."""
        self._unused.extend((name, key) for key in started)

    async def _end_unused(self) -> None:
        """Other processes may still call them: only what is silent is ended, and another look is taken at the rest."""
        unused = [(name, key) for name, key in _emptied(self._unused) if name not in self._known]
        if not unused:
            return
        try:
            running = {info.instance: info for info in await self.runner.instances()}
        except Refused:
            return  # its instances are gone with it, or end when they have been idle
        silent = {
            key
            for key, info in running.items()
            # A client's own process holds what it has said so far; it goes when it has been idle, as ever.
            if not info.session and not info.in_flight and info.silent_for >= SILENT_SECONDS
        }
        self._unused.extend((name, key) for name, key in unused if key in running.keys() - silent)
        ending = {key for _, key in unused} & silent
        await asyncio.gather(*(self.runner.drain(key) for key in ending), return_exceptions=True)

    def _begin_waking(self, client: Instance) -> None:
        if len(self._waking) < MOST_WAKING:
            task = self._loop.create_task(_woken(client))
            self._waking.add(task)
            task.add_done_callback(self._waking.discard)


async def _woken(client: Instance) -> None:
    with suppress(CallFailed):  # has been logged, and will be told to whoever calls it
        await client.wake()


def _note(started: deque[str], key: str) -> None:
    if key not in started:
        started.append(key)


def _emptied(unused: deque[tuple[str, str]]) -> list[tuple[str, str]]:
    taken = []
    while unused:
        taken.append(unused.popleft())
    return taken


def _session(socket: Path) -> aiohttp.ClientSession:
    """Not the guarded one: nothing leaves this machine through a unix socket. Calls bring their own limit of time."""
    return aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(str(socket)),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
    )
