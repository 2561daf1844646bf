from __future__ import annotations

from typing import Annotated

import typer

from mooring.cli.backend import Row, backend
from mooring.cli.output import Json, TenantOption, print_json, print_rows, say
from mooring.errors import NotFound

group = typer.Typer(help="API keys.", no_args_is_help=True)


@group.command("create")
def create(
    name: Annotated[str, typer.Option("--name", help="What the key is for.")],
    tenant: TenantOption = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help="What it may do, for example servers:call. Repeat. All a developer may."
        ),
    ] = None,
    server: Annotated[
        list[str] | None,
        typer.Option("--server", help="A server it is limited to. Repeat. All when left out."),
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", min=1, max=3650, help="Days it is good for; 90.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, this once."""
    from tenants.permissions import ROLES  # plain data; loaded here to keep `--help` quick

    with backend(tenant) as work:
        scopes = scope or sorted(ROLES["developer"])
        key = work.create_key(name=name, scopes=scopes, servers=server or [], days=days)
    if as_json:
        print_json(key)
    else:
        say(key["secret"])


@group.command("list")
def list_(tenant: TenantOption = "", as_json: Json = False) -> None:
    """List keys, newest first. Their secrets are not kept anywhere."""
    with backend(tenant) as work:
        rows = work.keys()
    columns = {
        "Key": "prefix",
        "Name": "name",
        "State": "state",
        "User": "user",
        "Servers": "servers",
        "Expires": "expires_at",
        "Last used": "last_used_at",
        "Id": "id",
    }
    print_rows(rows, columns, as_json=as_json, empty="No keys yet. Make one with `mooring keys create`.")


@group.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id, or its first 12 characters.")],
    tenant: TenantOption = "",
    as_json: Json = False,
) -> None:
    """End a key. Every gateway refuses it within two seconds."""
    with backend(tenant) as work:
        row = _found(work.keys(), key)
        work.revoke_key(row["id"])
    if as_json:
        print_json({"id": row["id"], "prefix": row["prefix"], "name": row["name"], "state": "revoked"})
    else:
        say(f"Revoked {row['prefix']}… ({row['name']}).")


def _found(rows: list[Row], wanted: str) -> Row:
    """By id, or by the characters that are shown of it; pasting a whole key works too."""
    found = [row for row in rows if row["id"] == wanted or wanted[:12] == row["prefix"]]
    if len(found) != 1:
        raise NotFound("There is no such key. `mooring keys list` shows them all.")
    return found[0]
