"""The runner as a process: one on a machine, until it is told to stop; then it drains and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import secrets
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from servers.runner.building.interpreters import is_open_to_all
from servers.runner.client import TOKEN
from servers.runner.egress import Permits, nowhere
from servers.runner.engine import MIB, Capabilities
from servers.runner.local import LocalEngine, Settings, name_of
from servers.runner.sandbox import leftovers
from servers.runner.serving import listening

TEND_SECONDS = 1.0
# Where artifacts are when the runner's own folder is one that only its user may enter, such as a checkout of root's.
STORES = Path("/var/lib/mooring")
# Linux's bound on the path of a unix socket, less the longest name in the folder.
LONGEST_FOLDER = 107 - len("/runner.token")
LONGEST_STORE = 107 - len("/doors/tmp12345678/s")

logger = logging.getLogger(__name__)


class CannotRun(Exception):
    """A sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Options:
    """`memory` in bytes for all servers together, 0 for half of the machine's; `group` may use the socket.

    `store` holds artifacts, None for the usual place; `python` is the interpreter for uploads, empty for the newest;
    `permits` is the installation's rule about addresses that servers may reach.
    """

    folder: Path
    store: Path | None = None
    python: str = ""
    permits: Permits = nowhere
    memory: int = 0
    group: int | None = None
    drain: float = 20.0
    allows_unsafe: bool = False


async def serve(options: Options, *, ready: Callable[[Capabilities], None] = lambda _: None) -> None:
    """Serve until SIGTERM or SIGINT. Raises `CannotRun` when another runner has the folder."""
    stopping = _stopping()
    _raise_limits()
    with _folder(options) as token, _store(options) as store:
        settings = Settings(
            folder=options.folder,
            store=store,
            python=options.python,
            permits=options.permits,
            memory=options.memory or _half_of_memory(),
            bearer=token,
            allows_unsafe=options.allows_unsafe,
        )
        files = (settings.socket, options.folder / TOKEN)
        # A runner that was killed together with its watcher has left groups behind.
        leftovers.remove(settings.name)
        watcher = leftovers.watch(settings.name, *files)
        engine = LocalEngine(settings)
        try:
            await _serve(engine, settings, options, stopping, ready)
        finally:
            await engine.close(options.drain)
            watcher.communicate()


def usual_store(folder: Path) -> Path:
    """Below `folder` if the users of servers can get there, else where they can."""
    if os.geteuid() != 0 or is_open_to_all(folder, to_list=False):
        return folder / "store"
    return STORES / name_of(folder).removeprefix("mooring-")


@contextlib.contextmanager
def _store(options: Options) -> Iterator[Path]:
    """Ours alone while it lasts, since what is unfinished in it is removed at the start."""
    store = _made(options.store or usual_store(options.folder))
    lock = os.open(store / "store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(lock, store)
        yield store
    finally:
        os.close(lock)


def _raise_limits() -> None:
    """Three pipes for each server, and a socket for each connection it makes, are more than the usual 1024 files."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _made(store: Path) -> Path:
    """To be passed through by every user, and listed by none. Raises `CannotRun`."""
    try:
        for folder in (*reversed(store.parents), store):
            if not folder.exists():
                folder.mkdir()
                folder.chmod(0o711)
    except OSError as error:
        raise CannotRun(
            f"{store} cannot be made: {error.strerror}. Choose another with MOORING_RUNNER_STORE."
        ) from None
    if len(os.fsencode(store)) > LONGEST_STORE:
        raise CannotRun(f"The path of {store} is too long for sockets: {LONGEST_STORE} bytes at most.")
    return store


async def _serve(
    engine: LocalEngine,
    settings: Settings,
    options: Options,
    stopping: asyncio.Event,
    ready: Callable[[Capabilities], None],
) -> None:
    capabilities = await engine.probe()
    async with listening(engine, settings.socket, bearer=settings.bearer, group=options.group):
        ready(capabilities)
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), TEND_SECONDS)
            await engine.reconcile()
        # Calls that run are answered before the socket closes; new ones are refused meanwhile.
        await engine.close(options.drain)


def _stopping() -> asyncio.Event:
    event = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


@contextlib.contextmanager
def _folder(options: Options) -> Iterator[str]:
    """Ours alone while it lasts. Gives the secret that callers must show, readable for `group` beside us."""
    folder = options.folder
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        raise CannotRun(f"The path of {folder} is too long for a socket: {LONGEST_FOLDER} bytes at most.")
    # Passed through on the way to the store by those who know its name; its own files are shut.
    folder.mkdir(parents=True, exist_ok=True, mode=0o751)
    lock = os.open(folder / "runner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(lock, folder)
        if options.group is not None:
            os.chown(folder, -1, options.group)
        yield _written_token(folder / TOKEN, options.group)
    finally:
        os.close(lock)


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CannotRun(f"Another runner is already running on {folder}.") from None


def _written_token(path: Path, group: int | None) -> str:
    token = secrets.token_urlsafe(32)
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w") as file:
        file.write(token)
    if group is not None:
        os.chown(path, -1, group)
    return token


def _half_of_memory() -> int:
    return max(256 * MIB, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
