"""`mooring runner`: the supervisor of sandboxes as a process of its own. Nothing of Django is set up here."""

from __future__ import annotations

import asyncio
import grp
import logging
from pathlib import Path

import typer
import uvloop

from mooring import environment
from mooring.egress.guard import Guard
from mooring.errors import Unavailable
from servers.runner.egress import USUAL_PORTS, Permits
from servers.runner.engine import MIB, Capabilities
from servers.runner.supervisor import CannotRun, Options, serve, usual_store


def run(folder: Path, *, memory: int, group: str, unsafe: bool) -> None:
    """Until SIGTERM. `memory` in MiB. Raises `Unavailable` when it cannot start."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    store = environment.text("MOORING_RUNNER_STORE")
    options = Options(
        folder=folder,
        store=Path(store).resolve() if store else None,
        python=environment.text("MOORING_RUNNER_PYTHON"),
        permits=_rule(),
        memory=memory * MIB,
        group=_number_of(group),
        allows_unsafe=unsafe,
    )
    if options.store is None and (usual := usual_store(folder)).parent != folder:
        typer.echo(f"Other users cannot enter {folder}: what is built is kept in {usual}.", err=True)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            loop.run(serve(options, ready=_greet))
    except CannotRun as error:
        raise Unavailable(str(error)) from None


def _rule() -> Permits:
    """The addresses that the installation's own calls may reach, on the two usual ports."""
    try:
        guard = Guard(environment.words("MOORING_EGRESS_ALLOW"), ports=USUAL_PORTS)
    except ValueError as error:
        raise Unavailable(f"MOORING_EGRESS_ALLOW: {error}") from None
    # By name and port alone: whether what flows is encrypted, only the two ends know.
    return lambda address, port: guard.permits(address, port, plain=False)


def _number_of(group: str) -> int | None:
    if not group:
        return None
    try:
        return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise Unavailable(f"There is no group called {group!r}.") from None


def _greet(capabilities: Capabilities) -> None:
    for sentence in capabilities.missing:
        typer.echo(f"Missing: {sentence}", err=True)
    if capabilities.is_safe:
        typer.echo("The runner is ready: servers run in sandboxes.", err=True)
    elif capabilities.allows_unsafe:
        typer.echo(
            "The runner is ready, UNSAFE: servers run although this machine cannot hold them.", err=True
        )
    else:
        typer.echo("The runner is ready, and refuses to run servers until nothing is missing.", err=True)
