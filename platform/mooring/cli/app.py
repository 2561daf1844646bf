"""The tree of commands, and the one place where errors become a line on standard error and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from mooring import __version__
from mooring.cli import (
    calling,
    deploying,
    developing,
    importing,
    keys,
    overrides,
    processes,
    records,
    servers,
    staff,
    tenants,
    tools,
    upstreams,
)
from mooring.cli.failures import explain
from mooring.cli.running import running


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def build() -> typer.Typer:
    app = typer.Typer(
        name="mooring",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(top)
    app.add_typer(running)
    app.add_typer(deploying.app)
    app.add_typer(developing.app)
    app.add_typer(calling.app)
    app.add_typer(servers.app)
    app.add_typer(upstreams.app)
    app.add_typer(processes.app)
    app.add_typer(records.app)
    for name, group in {
        "tenants": tenants.group,
        "staff": staff.group,
        "audit": records.audits,
        "keys": keys.group,
        "servers": servers.group,
        "tools": tools.group,
        "override": overrides.group,
        "import": importing.group,
    }.items():
        app.add_typer(group, name=name)
    return app


def top(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_tell_version)
    ] = False,
) -> None:
    """Host MCP servers for many teams. Set MOORING_URL and MOORING_KEY to steer another installation."""


def run(arguments: Sequence[str]) -> int:
    """Run one command. Returns 0, 1 for a refusal or a failure, 2 for a command line that makes no sense."""
    try:
        result = build()(args=list(arguments), prog_name="mooring", standalone_mode=False)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  # the border: what `explain` does not know is raised again
        line, code = explain(error, as_json="--json" in arguments)
        sys.stderr.write(f"{line}\n" if line else "")
        return code
    return result if isinstance(result, int) else 0
