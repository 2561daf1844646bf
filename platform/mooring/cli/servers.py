from __future__ import annotations

from typing import Annotated

import typer

from mooring.cli.backend import backend
from mooring.cli.names import ServerArgument, split
from mooring.cli.output import Json, TenantOption, print_json, print_rows, say

app = typer.Typer()
group = typer.Typer(help="Servers.", no_args_is_help=True)


@group.callback()
def servers() -> None:
    """Servers."""


@group.command("list")
def list_(tenant: TenantOption = "", as_json: Json = False) -> None:
    """List the organisation's servers."""
    with backend(tenant) as work:
        rows = work.servers()
    columns = {
        "Server": "slug",
        "Title": "title",
        "Live": "live",
        "Public": "is_public",
        "Endpoint": "endpoint",
    }
    print_rows(rows, columns, as_json=as_json, empty="No servers yet. Make one with `mooring deploy`.")


@app.command("versions")
def versions(server: ServerArgument, as_json: Json = False) -> None:
    """List a server's versions, newest first."""
    tenant, slug = split(server)
    with backend(tenant) as work:
        rows = work.versions(slug)
    columns = {
        "Version": "number",
        "Channels": "channels",
        "Published": "created_at",
        "By": "author",
        "Digest": "digest",
        "Notes": "notes",
    }
    print_rows(
        rows, columns, as_json=as_json, empty="Nothing is published yet. Publish with `mooring deploy`."
    )


@app.command("rollback")
def rollback(
    server: ServerArgument,
    version: Annotated[str, typer.Argument(help="Number of the version to serve, for example 1.2.0.")],
    as_json: Json = False,
) -> None:
    """Serve another version, earlier or later, from now on."""
    tenant, slug = split(server)
    with backend(tenant) as work:
        row = work.rollback(slug, version)
    if as_json:
        print_json(row)
    else:
        say(f"{tenant}/{slug} serves {row['number']} now.")
