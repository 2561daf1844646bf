from __future__ import annotations

import typer

from mooring.cli.backend import Row, backend
from mooring.cli.names import ServerArgument, split
from mooring.cli.output import Json, print_rows

group = typer.Typer(help="Tools of a server's draft.", no_args_is_help=True)


@group.callback()
def tools() -> None:
    """Tools of a server's draft."""


@group.command("list")
def list_(server: ServerArgument, as_json: Json = False) -> None:
    """List the tools of a server's draft, in their order."""
    tenant, slug = split(server)
    with backend(tenant) as work:
        rows = work.tools(slug)
    columns = {"Tool": "name", "Title": "title", "Runs": "runs", "On": "on", "Description": "description"}
    shown = rows if as_json else [row | _summary(row) for row in rows]
    print_rows(shown, columns, as_json=as_json, empty="This server has no tools.")


def _summary(row: Row) -> Row:
    http = row.get("http")
    remote, static = row.get("remote"), row.get("static", {})
    runs = f"{remote['name']} of {remote['upstream']}" if remote else str(static.get("kind", ""))
    runs = f"{http['method']} {http['url']}" if http else runs
    return {"runs": runs, "on": row.get("enabled", True), "description": row.get("description", "")[:80]}
