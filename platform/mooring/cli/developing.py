"""`mooring dev PATH`: one's own server through the whole gateway on this machine, new with each save."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mooring.cli import packing
from mooring.cli.backend import backend, start_django
from mooring.cli.deploying import secrets_of, upload
from mooring.cli.failures import UsageError
from mooring.cli.output import remark, say
from mooring.cli.running import answers
from mooring.cli.supervision import Family
from mooring.cli.uploading import Run, environment_of
from mooring.errors import MooringError

if TYPE_CHECKING:
    from servers.runner.own.engine import OwnEngine

app = typer.Typer()
TENANT, HOST = "dev", "127.0.0.1"
# How long after a save we notice it, how often calls are looked for, and how patient a build is asked.
SETTLE_MS, LOOK_MS, BUILD_PAUSE = 50, 250, 0.05
_CALLS = 50
# What would lead the commands of this process, or its web server, to another installation.
_OTHERS = ("MOORING_URL", "MOORING_KEY", "MOORING_TENANT", "REDIS_URL", "DATABASE_URL")
T = TypeVar("T")


@app.command("dev")
def dev(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A Python file, or a folder with one.")],
    name: Annotated[str, typer.Option("--server", help="What it is called in its URL.")] = "",
    port: Annotated[int, typer.Option(envvar="PORT", help="Port to listen on.")] = 8000,
    python: Annotated[
        str, typer.Option("--python", help="An interpreter that has all it needs; else we make one.")
    ] = "",
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="For its environment. Repeat.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="NAME=VALUE", help="As --env, and kept out of logs. Repeat."),
    ] = None,
) -> None:
    """Serve your own server on this machine, new with each save, and show its calls. It runs as you, unsandboxed."""
    source = Path(path).resolve()
    if not source.exists() or not packing.is_code(path):
        raise UsageError(f"{path} is neither a Python file nor a folder with one.")
    run = Run(environment_of(env or []), [], secrets_of(secret or []))
    _settle_in(_folder_of(source), port)
    family = Family(remark)
    family.listen()
    with _engine(Path(os.environ["MOORING_RUNNER_DIR"]), python) as engine:
        try:
            web = family.start("web server", "serve", "--host", HOST, "--port", str(port), "--migrate-first")
            if answers(web, family, HOST, port):
                _work(Workshop(source, name or _slug_of(source), run), Trace(engine), family)
        finally:
            family.stop(3.0)


def _work(workshop: Workshop, trace: Trace, family: Family) -> None:
    import watchfiles  # a compiled library that this command alone needs

    source, is_file = workshop.source, workshop.source.is_file()

    def counts(_: watchfiles.Change, changed: str) -> bool:
        return Path(changed) == source if is_file else packing.belongs(Path(changed))

    _make_tenant()
    trace.begin(workshop.name)
    workshop.renew()
    saves = watchfiles.watch(
        # Many editors put a new file in the place of the old one, which only its folder notices.
        source.parent if is_file else source,
        recursive=not is_file,
        watch_filter=counts,
        step=SETTLE_MS,
        rust_timeout=LOOK_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    for changed in saves:
        if family.is_stopping():
            return
        if changed:
            workshop.renew()
        trace.show(workshop.name)


def _folder_of(source: Path) -> Path:
    """Where its installation is: the same one for the same program, and never one that is used for anything else."""
    if given := os.environ.get("MOORING_DATA_DIR"):
        return Path(given).resolve()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "mooring" / "dev" / hashlib.sha256(str(source).encode()).hexdigest()[:12]


def _settle_in(folder: Path, port: int) -> None:
    for variable in _OTHERS:
        os.environ.pop(variable, None)
    os.environ |= {
        "MOORING_DATA_DIR": str(folder),
        "MOORING_RUNNER_DIR": str(folder / "runner"),
        "MOORING_DRAIN": "0",
        "PORT": str(port),
    }
    os.environ.setdefault("MOORING_LOG_LEVEL", "WARNING")
    (folder / "runner").mkdir(parents=True, exist_ok=True)


def _slug_of(source: Path) -> str:
    name = source.parent.name if source.stem in {"server", "main", "app"} else source.stem
    return (
        "-".join("".join(mark if mark.isalnum() else " " for mark in name.lower()).split())[:40] or "server"
    )


def _make_tenant() -> None:
    start_django()
    from mooring.cli.local import make_tenant  # needs Django's applications to be loaded
    from mooring.errors import Conflict

    with suppress(Conflict):  # from last time
        make_tenant(TENANT, owner="dev@example.com", password=secrets.token_urlsafe(), name="Development")


# ---- the program -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Workshop:
    """Publishes `source` as it is whenever it is asked to."""

    source: Path
    name: str
    run: Run
    _is_first: bool = True

    def renew(self) -> None:
        """Says what came of it; while something is wrong with it, the version before goes on being served."""
        began = time.monotonic()
        try:
            code = packing.read(str(self.source))
            done = upload(TENANT, self.name, code, self.run, public=True, notes="", pause=BUILD_PAUSE)
        except (MooringError, OSError) as error:
            remark(f"✗ {getattr(error, 'message', '') or error}")
            return
        for part in done.left_out:
            remark(f"Left out: {': '.join(part.values())}")
        version = f"Version {done.version}" if done.is_new_version else f"Unchanged, {done.version}"
        say(f"✓ {version}: {done.tools} tools, in {time.monotonic() - began:.2f} s")
        if self._is_first:
            say(done.endpoint)
            remark("Save it to serve what has changed. Ctrl-C stops it.")
        self._is_first = False


@dataclass(slots=True)
class Trace:
    """Shows what happened since it was last asked to: calls through the gateway, and what the program has written."""

    engine: Serving
    _seen: set[str] = field(default_factory=set)
    _read: dict[tuple[str, str], int] = field(default_factory=dict)

    def begin(self, server: str) -> None:
        """What was called the last time is no news."""
        self._seen = {row["id"] for row in _calls(server)}

    def show(self, server: str) -> None:
        for line in self.engine.do(self._written()):
            remark(f"  │ {line}")
        rows = _calls(server)
        for row in reversed(rows):
            if row["id"] not in self._seen:
                say(_traced(row))
        self._seen = {row["id"] for row in rows}

    async def _written(self) -> list[str]:
        engine, lines = self.engine.engine, []
        for one in {(each.tenant, each.server) for each in await engine.instances()}:
            for line in await engine.server_logs(*one, self._read.get(one, 0)):
                lines.append(line.text)
                self._read[one] = line.number
        return lines


def _calls(server: str) -> list[dict[str, Any]]:
    """The last ones, newest first; none of a server that is not there yet."""
    with backend(TENANT) as work:
        return work.calls(server=server, limit=_CALLS) if work.server(server) else []


def _traced(row: Mapping[str, Any]) -> str:
    moment, took = row["time"][11:19], row["duration_us"] / 1000
    what = " ".join(filter(None, [row["method"], row["subject"]]))
    how = row["status"] if not row["code"] else f"{row['status']} {row['code']}"
    return f"{moment}  {what}  {how}  {took:.1f} ms  {row['client']}".rstrip()


# ---- what runs it ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Serving:
    """An engine in a thread of its own, and how something is asked of it."""

    engine: OwnEngine
    loop: asyncio.AbstractEventLoop

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)


@contextmanager
def _engine(folder: Path, python: str) -> Iterator[Serving]:
    """Serves in the place of `mooring runner`, so that all the rest is as it is anywhere."""
    ready: Future[Serving] = Future()
    stop = threading.Event()
    thread = threading.Thread(target=_serve, args=(folder, python, ready, stop), name="engine", daemon=True)
    thread.start()
    serving = ready.result(30)
    try:
        yield serving
    finally:
        stop.set()
        thread.join(10)


def _serve(folder: Path, python: str, ready: Future[Serving], stop: threading.Event) -> None:
    try:
        asyncio.run(_served(folder, python, ready, stop))
    except Exception as error:  # noqa: BLE001  # raised where it is waited for
        if not ready.done():
            ready.set_exception(error)


async def _served(folder: Path, python: str, ready: Future[Serving], stop: threading.Event) -> None:
    from servers.runner.client import SOCKET, TOKEN  # its machinery is for this command alone
    from servers.runner.own.engine import OwnEngine
    from servers.runner.serving import listening

    bearer = secrets.token_urlsafe(32)
    (folder / TOKEN).write_text(bearer)
    engine = OwnEngine(folder / "own", socket=folder / SOCKET, bearer=bearer, python=python)
    try:
        async with listening(engine, folder / SOCKET, bearer=bearer):
            ready.set_result(Serving(engine, asyncio.get_running_loop()))
            while not stop.is_set():
                await asyncio.sleep(0.2)
                await engine.reconcile()
    finally:
        await engine.close(1.0)
